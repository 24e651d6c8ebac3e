"""The part of a step that is the same every time, recorded once on a GPU and replayed: a CUDA graph.

A small network's kernels take less time than the host needs to launch them one by one; a recorded step is one launch.
Recorded are the views, the loss, its gradient and, of pretraining, what the monitors measure; and in a second graph,
after the online probe, clipping, the optimiser and the teacher. Outside stay the copies of what the host has drawn, the
online probe and sums.
"""

from __future__ import annotations

import dis
import inspect
import sys
import warnings
from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor, nn

from tumorxai.networks.batches import seed_draws
from tumorxai.networks.schedules import Rates

WARM = 3  # steps taken as usual before one is recorded: in them libraries choose their kernels, and memory is taken


T = TypeVar("T")  # what a step leaves on the device: tensors, or what holds them
Work = Callable[[Sequence[Tensor], float], T]


def reads(function: Callable[..., Any], parameter: str) -> bool:
    """Whether a function looks at one of its parameters, read off its code; what has no code is said to."""
    code = getattr(inspect.unwrap(function), "__code__", None)
    if code is None:
        return True
    named = (each.argval if isinstance(each.argval, tuple) else (each.argval,) for each in dis.get_instructions(code))
    return any(parameter in names for names in named)


def obstacle(asked: str, device: torch.device) -> str | None:
    """Why no step is recorded on a device, None if nothing is known against it.

    Args:
        asked: as ``pretrain.graphs``.
        device: of the step.
    """
    if asked == "off":
        return "pretrain.graphs is off"
    return None if device.type == "cuda" else f"the device is {device.type}, not cuda"


def record(work: Callable[[], T], stream: Any) -> Callable[[], T]:
    """Record what ``work`` launches, without running it; what it returns is filled anew by every replay."""
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, stream=stream):
        found = work()

    def replay() -> T:
        graph.replay()
        return found

    return replay


def watched(work: Callable[[], T], device: torch.device) -> tuple[T, bool]:
    """Do the work, and tell whether the host waited for a GPU in it.

    Such work cannot be recorded, and a try that fails may leave PyTorch's generator of random numbers of no use.
    """
    if device.type != "cuda":
        return work(), False
    before = torch.cuda.get_sync_debug_mode()
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            found = work()
        finally:
            torch.cuda.set_sync_debug_mode(before)
    return found, any("called a synchronizing" in str(each.message) for each in told)


class Fixed(Generic[T]):
    """The fixed part of a step: run as it is, or recorded after ``WARM`` steps and replayed from then on.

    Args:
        work: takes tensors of fixed shapes and the share of training done, which it looks at only where nothing is
            recorded. It leaves gradients, or takes those that a recorded step has left.
        module: whose gradients these are.
        device: of all of it.
        why: nothing is to be recorded; None to do so.
        name: of the work, for words.
    """

    def __init__(
        self, work: Work[T], module: nn.Module, device: torch.device, why: str | None, name: str = "a step"
    ) -> None:
        self.work, self.module, self.device, self.why, self.name = work, module, device, why, name
        self.said: str | None = None  # of why
        self.streams: Any = torch.get_device_module(device)  # torch.cuda; torch.cpu's streams do nothing
        self.side = self.streams.Stream() if why is None else None
        self.steps = 0
        self.given: list[Tensor] = []
        self.gradients: list[tuple[nn.Parameter, Tensor]] = []
        self.replay: Callable[[], T] | None = None

    def __call__(self, given: Sequence[Tensor], progress: float, key: Sequence[int] = ()) -> T:
        """Run it.

        Args:
            given: its inputs.
            progress: share of training done.
            key: of what it draws itself, see :func:`~tumorxai.networks.batches.seed_draws`; none: draws go on.

        Returns:
            What it found; of a replay, valid until the next one.
        """
        if self.why is None and self.replay is None and self.steps >= WARM:
            self._record(given, progress)
        if key:
            seed_draws(*key)
        if self.replay is not None:
            for fixed, new in zip(self.given, given, strict=True):
                fixed.copy_(new, non_blocking=True)
            found = self.replay()
            for parameter, gradient in self.gradients:
                parameter.grad = gradient
            return found
        self.steps += 1
        if self.side is None:
            return self.work(given, progress)
        current = self.streams.current_stream()  # gradients must not be tied to the stream that cannot be recorded
        self.side.wait_stream(current)
        with self.streams.stream(self.side):
            if self.steps < WARM:
                found, waited = self.work(given, progress), False
            else:
                found, waited = watched(lambda: self.work(given, progress), self.device)
        current.wait_stream(self.side)
        if waited:
            self.stop("the step waits for the device")
        return found

    @property
    def state(self) -> str:
        """What became of it, in words."""
        return self.why or ("recorded" if self.replay else "not recorded yet")

    def say(self, bar: Any) -> None:
        """Say once, above a progress bar, why nothing is recorded on a GPU."""
        if self.device.type == "cuda" and self.why not in (None, self.said):
            self.said = self.why
            bar.write(f"note: the kernels of {self.name} are launched one by one: {self.said}", file=sys.stderr)

    def stop(self, why: str) -> None:
        """Record nothing, now or later."""
        self.why, self.side, self.given, self.gradients, self.replay = why, None, [], [], None

    def _record(self, given: Sequence[Tensor], progress: float) -> None:
        """Record one step, or say why not and leave all as it was."""
        self.given = [x.clone() for x in given]
        before, gradients = _buffers(self.module), [(each, each.grad) for each in self.module.parameters()]
        why = None
        try:
            self.replay = record(lambda: self.work(self.given, progress), self.side)
        except RuntimeError as error:  # out of memory, say; what ends the recording then fails as well
            first: BaseException = error
            while first.__context__ is not None:
                first = first.__context__
            why = str(first).strip().split("\n")[0] or type(first).__name__
        self.gradients = [(each, each.grad) for each in self.module.parameters() if each.grad is not None]
        for (module, name), tensor in before.items():
            if module._buffers[name] is not tensor:  # each replay would start from the old one again
                module._buffers[name] = tensor
                why = why or f"the step puts a new tensor in the place of the buffer {name}"
        if why is not None:
            for parameter, gradient in gradients:
                parameter.grad = gradient
            self.stop(why)


class Halves(Generic[T]):
    """A step in two fixed parts: what leaves gradients, and what takes them. Between them the host may do more.

    Args:
        learn: leaves gradients.
        end: takes them, with the learning rates that come from ``rates``.
        module: whose gradients these are.
        device: of all of it.
        why: no step is to be recorded; None to do so.
        rates: of the optimiser in ``end``.
    """

    def __init__(
        self, learn: Work[T], end: Work[None], module: nn.Module, device: torch.device, why: str | None, rates: Rates
    ) -> None:
        self.rates = rates
        self.learn = Fixed(learn, module, device, why)
        if rates.on_host and why is None:
            why = "the optimiser's learning rates come from the host"
        self.end = Fixed(end, module, device, why, "the end of a step")

    def give(self, factor: float, progress: float) -> None:
        """Set the learning rates of a step before it; see :meth:`tumorxai.networks.schedules.Rates.give`."""
        self.given, self.progress = self.rates.give(factor, progress), progress

    def finish(self) -> None:
        """Take the gradients that the first half has left."""
        if self.learn.why is not None:  # they lie elsewhere at each step
            self.end.stop(self.learn.why)
        self.end(self.given, self.progress)
        self.rates.optimizer.zero_grad()

    @property
    def state(self) -> str:
        """What became of both, in words."""
        first, end = self.learn.state, self.end.state
        return first if first == end else f"{first}; the end of a step: {end}"

    def say(self, bar: Any) -> None:
        """Say once, above a progress bar, what is not recorded on a GPU, and why."""
        self.learn.say(bar)
        self.end.say(bar)


def _buffers(module: nn.Module) -> dict[tuple[nn.Module, str], Tensor | None]:
    """The tensors that a module and its parts remember, by part and name."""
    return {(part, name): tensor for part in module.modules() for name, tensor in part._buffers.items()}
