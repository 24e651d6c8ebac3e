"""What a GPU's time goes to, in one run of at most four minutes: a JSON line for each part, whatever becomes of others.

    python benchmarks/gpu.py [--small] [--seconds 230] [--only PART …]

    resnet50, vit_s   SimCLR, 224 px, batch 256: the loop (recorded, and launched kernel by kernel) against the model
                      alone on views that lie on the device, both also compiled; peak memory
    lightly           the same ResNet-50 on lightly's transform, data set and loader with all cores
    firildak          Firildak's CNN, 96 px, batch 64, likewise, and with images copied ahead instead of on the device
    views             two views of a batch: all at once against block by block
    finetune          the project's fine-tuning of a ResNet-50, 224 px, against an fp32 loop that waits at each step
    grad_cam, vit_cx  heat-maps: against a bare forward pass; masks in batches against one by one

--small does the same with networks and images so small that a CPU takes a minute or two: it tries the script, not the
speed. What is needed is PyTorch, torchvision, timm, NumPy, scikit-learn, pydantic, Pillow and lightning-fabric;
fine-tuning also takes pandas, and `lightly` lightly: without them, these parts say so. Rates are images/s, of two views
each where there are views. The last line repeats all parts as one object.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import signal
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import numpy as np
import torch
import torch.nn.functional as F
from measure import CLASSES, STOOD_IN, Bench, Found, Size, pixels  # first: it finds the project and what it needs
from torch import Tensor

from tumorxai import config
from tumorxai.networks import encoders, engine, store, views
from tumorxai.networks.classifier import Classifier


def network(bench: Bench, name: str, compiled: bool) -> Found:
    """The loop against the model alone."""
    size, found = bench.sizes[name], Found()
    found |= {"backbone": size.backbone, "px": size.side, "batch": size.batch}
    loop = bench.loop(size)
    with torch.backends.cudnn.flags(enabled=True, benchmark=True):  # as the loop trains
        with bench.memory(found, "model_gb"):
            found["model"] = bench.alone(loop)
        with bench.memory(found, "ours_gb"):
            found["ours"] = bench.ours(loop)
        found["graphs"] = loop.halves.state
        found["share_of_model"] = found["ours"] / found["model"]
        del loop
        gc.collect()
        found["ours_launched_one_by_one"] = bench.ours(bench.loop(size, graphs="off"))
        found["share_launched_one_by_one"] = found["ours_launched_one_by_one"] / found["model"]
        if compiled:
            print(json.dumps({"so_far": found}, default=float), flush=True)  # to compile may take too long
            loop = bench.loop(size, compile=True)
            started = time.perf_counter()
            found["model_compiled"] = bench.alone(loop)
            found["compile_seconds"] = time.perf_counter() - started
            found["ours_compiled"] = bench.ours(loop)
            found["graphs_compiled"] = loop.halves.state
            found["ours_compiled_over_eager_model"] = found["ours_compiled"] / found["model"]
            found["share_of_compiled_model"] = found["ours_compiled"] / found["model_compiled"]
    return found


def resnet50(bench: Bench) -> Found:
    """ResNet-50."""
    return network(bench, "resnet50", compiled=not bench.small)


def vit_s(bench: Bench) -> Found:
    """ViT-S."""
    return network(bench, "vit_s", compiled=not bench.small)


def firildak(bench: Bench) -> Found:
    """A network so small that it waits for the host."""
    found = network(bench, "firildak", compiled=False)
    loop = bench.loop(bench.sizes["firildak"])
    loop.batches.__dict__["store"] = store.Ahead(loop.batches.images, bench.device)
    found["ours_copied_ahead"] = bench.ours(loop)
    return found


def lightly(bench: Bench) -> Found:
    """The published way of lightly, for a few steps: its transform takes RGB."""
    if STOOD_IN:
        return {"skipped": "lightly is not installed"}
    from lightly.data import LightlyDataset
    from lightly.transforms import SimCLRTransform
    from PIL import Image
    from torch.utils.data import DataLoader

    size, cores = bench.sizes["resnet50"], len(os.sched_getaffinity(0))
    loop = bench.loop(size, channels=3)
    loop.method.to(memory_format=torch.contiguous_format)
    with tempfile.TemporaryDirectory() as folder:
        for i, image in enumerate(loop.batches.images):
            Image.fromarray(image[0]).convert("RGB").save(f"{folder}/{i:06d}.jpg", quality=90)
        dataset = LightlyDataset(folder, transform=SimCLRTransform(input_size=size.side))
        loader = DataLoader(dataset, batch_size=size.batch, shuffle=True, drop_last=True, num_workers=cores)

        def forever() -> Iterator[list[Tensor]]:
            while True:
                for made, _, _ in loader:
                    yield [view.to(bench.device, non_blocking=True) for view in made]

        published = bench.alone(loop, forever().__next__)
    ours = bench.ours(bench.loop(size, channels=3))
    return {"lightly": published, "ours": ours, "over_lightly": ours / published, "cores": cores}


def view_rates(bench: Bench) -> Found:
    """Two views of a batch, without a network."""
    size = bench.sizes["resnet50"]
    loop = bench.loop(size)
    drawn, step = loop.batches, iter(range(10**9))
    raw = torch.from_numpy(drawn.images[: size.batch]).to(bench.device)

    def blocks() -> None:
        for part in raw.split(64):
            for view in drawn.recipes:
                views.draw(part, view, size.side)

    at_once = bench.rate(lambda: drawn.draw(next(step) % 8, range(size.batch)), size.batch)
    by_blocks = bench.rate(blocks, size.batch)
    return {"at_once": at_once, "by_blocks": by_blocks, "times_faster": at_once / by_blocks}


def finetune(bench: Bench) -> Found:
    """Fine-tuning as the stage does it, and a loop in fp32 that looks at its loss after each step."""
    size, found = bench.sizes["finetune"], Found()
    count = 8 * size.batch
    images = pixels(count, size.side)
    found["plain_fp32"] = plain(bench, size, images)
    try:
        import pandas as pd

        from tumorxai.base.dataset import Dataset
        from tumorxai.inputs.unfinished import Unfinished
        from tumorxai.train import training
    except ImportError as error:
        return found | {"skipped": f"the project's own: {error}"}
    names = np.array(["a", "b", "c", "d"])[np.arange(count) % CLASSES]
    rank = np.arange(count) / count
    table = pd.DataFrame({"label": names, "side": "train", "label_rank": rank}).rename_axis("image_id")
    dataset = Dataset(images, table, ("a", "b", "c", "d"))
    for epochs in (1, 3 if bench.small else 20):  # in the first run libraries choose their kernels; it does not count
        classifier = training.start(config.Model(backbone=size.backbone), dataset, None, dataset.labelled(1.0))
        settings = config.Params().finetune.model_copy(
            update={"epochs": epochs, "batch_size": size.batch, "warmup_epochs": 0}
        )
        fabric = training.device("auto")
        one = training.Training(dataset, classifier, settings, dataset.labelled(1.0), 0, "finetune", fabric)
        with tempfile.TemporaryDirectory() as folder:
            bench.finish()
            started = time.perf_counter()
            one.run(Unfinished(Path(folder), "finetune", {}))
            bench.finish()
            found["ours"] = epochs * count / (time.perf_counter() - started)
    return found | {"over_plain_fp32": found["ours"] / found["plain_fp32"]}


def classifier_of(bench: Bench, size: Size) -> Classifier:
    """An untrained classifier of grey images."""
    torch.manual_seed(0)
    encoder = encoders.build(config.Model(backbone=size.backbone), 1, size.side)
    features = encoders.width(encoder, 1, size.side)
    made = Classifier(encoder, features, ("a", "b", "c", "d"), 0.3, 0.2)
    return made.to(bench.device).to(memory_format=torch.channels_last)


def plain(bench: Bench, size: Size, images: np.ndarray) -> float:
    """Images/s of a loop in fp32, as fine-tuning was before: images copied at each step, and the loss looked at."""
    model = classifier_of(bench, size)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    labels, rng = torch.arange(len(images)) % CLASSES, np.random.default_rng(0)

    def step() -> None:
        ids = np.sort(rng.permutation(len(images))[: size.batch])
        raw = torch.from_numpy(images[ids]).to(bench.device)
        x = model.normalise(views.draw(raw, views.SUPERVISED, size.side))
        loss = F.cross_entropy(model(x), labels[ids].to(bench.device))
        if not torch.isfinite(loss):
            raise RuntimeError(f"the loss is {loss.item()}")
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return bench.rate(step, size.batch)


def grad_cam(bench: Bench) -> Found:
    """Grad-CAM against a bare forward pass."""
    from tumorxai.explain.explainer import Explainer

    size = bench.sizes["maps"]
    model = classifier_of(bench, size)
    x = model.normalise(torch.from_numpy(pixels(size.batch, size.side)).to(bench.device))
    targets = torch.arange(size.batch, device=bench.device) % CLASSES
    explainer = Explainer.of(model, x[:1])

    @torch.no_grad()
    def forward() -> None:
        model(x)

    alone = bench.rate(forward, size.batch)
    maps = bench.rate(lambda: explainer.maps(x, targets, "grad_cam"), size.batch)
    return {"forward": alone, "grad_cam": maps, "share_of_forward": maps / alone}


def vit_cx(bench: Bench) -> Found:
    """ViT-CX of two images, its masks in batches and one by one; whole maps, the masks' making included."""
    from tumorxai.explain import vit_cx as method
    from tumorxai.explain.explainer import Explainer

    size, found = bench.sizes["masks"], Found()
    model = classifier_of(bench, size).eval()
    x = model.normalise(torch.from_numpy(pixels(2, size.side)).to(bench.device))
    targets = torch.zeros(2, dtype=torch.int64, device=bench.device)
    layer = Explainer.of(model, x[:1]).features
    masks = torch.rand(size.batch, size.side, size.side, device=bench.device)
    noise = torch.randn(size.batch, *x.shape[1:], device=bench.device)

    def scores(batch: int | None) -> Callable[[], object]:
        return lambda: method.causal_scores(model, x[0], masks, 0, noise, batch)

    with bench.memory(found, "batched_gb"):
        found["masks_batched"] = bench.rate(scores(None), size.batch)
    found["masks_one_by_one"] = bench.rate(scores(2), size.batch, warm=1)
    found["times_faster"] = found["masks_batched"] / found["masks_one_by_one"]

    def whole(batch: int | None) -> Callable[[], object]:
        return lambda: method.vit_cx(model, x, targets, layer, most=size.batch, batch=batch)

    found["maps"], found["maps_one_by_one"] = bench.rate(whole(None), 2, warm=1), bench.rate(whole(2), 2, warm=0)
    return found


# In the order in which they run, with the seconds that each may take.
PARTS: dict[str, tuple[Callable[[Bench], Found], int]] = {
    "firildak": (firildak, 35), "views": (view_rates, 15), "finetune": (finetune, 30), "vit_cx": (vit_cx, 30),
    "grad_cam": (grad_cam, 15), "resnet50": (resnet50, 75), "lightly": (lightly, 25), "vit_s": (vit_s, 60),
}  # fmt: skip


class OverTimeError(Exception):
    """A part has had its seconds."""


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """Raise where a part takes longer; what runs outside Python ends first."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise OverTimeError(f"stopped after its {seconds:.0f} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def surroundings(bench: Bench) -> Found:
    """Where it ran."""
    on_gpu = bench.device.type == "cuda"
    return {
        "device": torch.cuda.get_device_name() if on_gpu else "cpu",
        "gb": torch.cuda.get_device_properties(0).total_memory / 1e9 if on_gpu else None,
        "cores": len(os.sched_getaffinity(0)),
        "torch": torch.__version__,
        "precision": engine.precision("auto") if on_gpu else "32-true",
        "lightly": "missing: its head of SimCLR is stood in for" if STOOD_IN else "installed",
        "small": bench.small,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", action="store_true", help="tiny, on the CPU, to try the script")
    parser.add_argument("--seconds", type=float, default=230.0, help="of the whole run")
    parser.add_argument("--only", nargs="+", choices=list(PARTS), default=list(PARTS))
    options = parser.parse_args()
    if options.small:
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    started, bench = time.perf_counter(), Bench(options.small)
    every: Found = {"surroundings": surroundings(bench)}
    print(json.dumps({"part": "surroundings", **every["surroundings"]}), flush=True)
    for name in (name for name in PARTS if name in options.only):
        part, most = PARTS[name]
        begun = time.perf_counter()
        left = options.seconds - (begun - started)
        try:
            if left < 3:
                raise OverTimeError("not begun: the run has had its seconds")
            with within(left if options.small else min(most, left)):  # a slow CPU is no failure
                found = part(bench)
        except Exception as error:  # whatever it is, the other parts are worth their run
            where = traceback.extract_tb(error.__traceback__)[-1]
            failed = f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else ''}"
            found = {"failed": failed, "at": f"{Path(where.filename).name}:{where.lineno}"}
        every[name] = {**found, "seconds": time.perf_counter() - begun}
        print(json.dumps({"part": name, **every[name]}, default=float), flush=True)
        gc.collect()
        if bench.device.type == "cuda":
            torch.cuda.empty_cache()
    print(json.dumps(every, default=float))


if __name__ == "__main__":
    main()
