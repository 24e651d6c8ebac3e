"""A published folder sent to a model hub, by huggingface-hub.

The address is ``HF_ENDPOINT``'s, the token the one of ``hf auth login`` or ``HF_TOKEN``: neither is read here.
"""

from __future__ import annotations

from pathlib import Path

from huggingface_hub import HfApi
from huggingface_hub.errors import HfHubHTTPError, HFValidationError
from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]  # public, but not listed

from tumorxai import __version__
from tumorxai.errors import UserError


def check(repository: str) -> None:
    """See that a repository's name is one.

    Raises:
        UserError: it is not.
    """
    try:
        validate_repo_id(repository)
        owned = "/" in repository
    except HFValidationError:
        owned = False
    if not owned:
        raise UserError(f"--push: got {repository!r}; expected a name on the hub such as OWNER/NAME; correct it")


def push(folder: Path, repository: str, public: bool, written: list[str]) -> str:
    """Send a folder, as one commit; what an earlier one has under the same names, and this one has not, goes.

    Args:
        folder: what to send.
        repository: ``OWNER/NAME``; it is made where there is none yet.
        public: whether everybody may see a repository that is made. One that is there stays as it is.
        written: every name that a published folder may have.

    Returns:
        Address of the commit.

    Raises:
        UserError: the hub cannot be reached or refuses, or the repository is open to everybody and ``public`` is not.
    """
    api = HfApi(library_name="tumorxai", library_version=__version__)
    try:
        api.create_repo(repository, private=not public, exist_ok=True)
        if not public and not api.repo_info(repository).private:
            raise UserError(
                f"got {repository} on {api.endpoint}, which everybody can see; expected a private one; add --public if "
                "that is meant, or choose another name"
            )
        commit = api.upload_folder(
            repo_id=repository, folder_path=folder, commit_message=f"Publish by TumorXAI {__version__}",
            delete_patterns=written,
        )  # fmt: skip
    except UserError:
        raise
    except Exception as error:  # whatever the client, its HTTP library and its storage raise
        said = str(getattr(error, "server_message", None) or error).strip().split("\n")[0] or type(error).__name__
        refused = isinstance(error, HfHubHTTPError) and error.response.status_code in (401, 403)
        hint = (
            "log in by `hf auth login` as one who may write there"
            if refused
            else "check the network, and HF_ENDPOINT if it is set"
        )
        raise UserError(
            f"could not send {folder} to {repository} on {api.endpoint}: {said}; {hint}; the folder is whole: "
            f"`hf upload {repository} {folder}` sends it"
        ) from None
    return str(commit.commit_url)
