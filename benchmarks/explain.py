"""How fast heat-maps are: CAMs beside a bare forward pass and pytorch-grad-cam, and ViT-CX by its number of masks.

    python benchmarks/explain.py [--rounds 10] [--few 2] [--masks 8 16 32 64 128] [--vit NAME]
        [--vit-size 224] [--device cpu]

The contestants take turns within each round, in random order, and a ratio is the median over the rounds of ratios
within a round, so that a busy machine slows all of them. Maps are compared before anything is timed. The last line is
one JSON object.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import time
from collections.abc import Callable
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import timm
import torch
from pytorch_grad_cam import (
    KPCA_CAM,
    EigenCAM,
    EigenGradCAM,
    GradCAM,
    GradCAMElementWise,
    GradCAMPlusPlus,
    HiResCAM,
    LayerCAM,
    XGradCAM,
)
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from torch import Tensor, nn

from tumorxai.explain import vit_cx
from tumorxai.explain.explainer import Explainer

PEERS = {
    "grad_cam": GradCAM,
    "grad_cam_plus_plus": GradCAMPlusPlus,
    "layer_cam": LayerCAM,
    "eigen_cam": EigenCAM,
    "hires_cam": HiResCAM,
    "x_grad_cam": XGradCAM,
    "grad_cam_elementwise": GradCAMElementWise,
    "eigen_grad_cam": EigenGradCAM,
    "kpca_cam": KPCA_CAM,
}
SIGNED = {"eigen_cam", "eigen_grad_cam", "kpca_cam"}  # there the sign is arbitrary
MANY = ("finer_cam", "fullgrad", "ablation_cam", "score_cam")  # without a peer of one call, or too slow to race


class Classifier(nn.Module):
    """A timm encoder with a linear head."""

    def __init__(self, name: str, channels: int, **arguments: Any) -> None:
        super().__init__()
        self.encoder = timm.create_model(name, num_classes=0, in_chans=channels, **arguments)
        self.head = nn.Linear(self.encoder.num_features, 4)

    def forward(self, x: Tensor) -> Tensor:
        """Logits of images."""
        logits: Tensor = self.head(self.encoder(x))
        return logits


def seconds(call: Callable[[], object], device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize()
    start = time.perf_counter()
    call()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def race(calls: dict[str, Callable[[], object]], rounds: int, device: torch.device) -> dict[str, list[float]]:
    """Seconds of each call in each round, after one round that does not count."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    order = random.Random(0)  # noqa: S311
    for turn in range(rounds + 1):
        for name in order.sample(list(calls), len(calls)):  # what ran just before must not favour anyone
            took = seconds(calls[name], device)
            if turn:
                times[name].append(took)
    return times


def ratio(times: dict[str, list[float]], slow: str, fast: str) -> float:
    """How many times faster ``fast`` is than ``slow``."""
    return statistics.median(a / b for a, b in zip(times[slow], times[fast], strict=True))


def cams(arguments: argparse.Namespace, device: torch.device) -> dict[str, Any]:
    model = Classifier(arguments.cnn, 3).to(device).eval()
    images = torch.randn(arguments.batch, 3, arguments.size, arguments.size, device=device)
    targets = torch.randint(0, 4, (arguments.batch,), device=device)
    wanted = [ClassifierOutputTarget(int(target)) for target in targets]
    explainer = Explainer.of(model, images[:1])

    @torch.no_grad()
    def forward() -> Tensor:
        logits: Tensor = model(images)
        return logits

    def peer(kind: type) -> Any:
        with kind(model, [explainer.layer.module]) as cam:
            return cam(images, wanted)

    calls: dict[str, Callable[[], object]] = {"forward": forward}
    for method, kind in PEERS.items():
        calls[method] = lambda method=method: explainer.maps(images, targets, method)
        calls[f"{method} (pytorch-grad-cam)"] = lambda kind=kind: peer(kind)
        if method not in SIGNED:
            torch.testing.assert_close(
                explainer.maps(images, targets, method).cpu(), torch.from_numpy(peer(kind)), atol=1e-3, rtol=0
            )
    times = race(calls, arguments.rounds, device)
    print(f"{arguments.cnn}, batch {arguments.batch}, {arguments.size} px, layer {explainer.layer.name}")
    for name, taken in times.items():
        print(f"  {name:40s} {arguments.batch / statistics.median(taken):9.1f} images/s")
    result: dict[str, Any] = {"images_per_second": arguments.batch / statistics.median(times["grad_cam"])}
    for method in PEERS:
        result[method] = {
            "over_forward": ratio(times, "forward", method),
            "over_peer": ratio(times, f"{method} (pytorch-grad-cam)", method),
        }
        print(f"  {method:40s} {result[method]['over_forward']:9.2f} of a bare forward pass's speed, "
              f"{result[method]['over_peer']:.2f} times pytorch-grad-cam's")  # fmt: skip
    few, wanted_few = images[: arguments.few], targets[: arguments.few]
    many = race({name: lambda name=name: explainer.maps(few, wanted_few, name) for name in MANY}, 1, device)
    one = statistics.median(times["forward"]) / arguments.batch  # of a forward pass of the whole batch, an image
    for name in MANY:
        taken = statistics.median(many[name]) / len(few)
        result[name] = {"seconds_per_image": taken, "forward_passes": taken / one}
        print(f"  {name:40s} {taken:9.3f} s an image, as long as {taken / one:.0f} forward passes")
    return result


def setting(
    arguments: argparse.Namespace, count: int, device: torch.device
) -> tuple[nn.Module, Tensor, Tensor, Tensor]:
    """A transformer, an image, ``count`` masks and their noise."""
    torch.manual_seed(0)
    model = Classifier(arguments.vit, 3, img_size=arguments.vit_size).to(device).eval()
    size = (arguments.vit_size, arguments.vit_size)
    image = torch.randn(3, *size, device=device)
    masks = nn.functional.interpolate(torch.rand(1, count, 16, 16, device=device), size=size, mode="bilinear")[0]
    return model, image, masks, torch.randn(count, 3, *size, device=device)


def scored(model: nn.Module, image: Tensor, masks: Tensor, noise: Tensor, batch: int | None) -> Tensor:
    effect, _, _ = vit_cx.causal_scores(model, image, masks, 0, noise, batch)
    return vit_cx.combine(masks, effect)


def peak(arguments: argparse.Namespace, count: int) -> float:
    """Bytes that the maps of one image need at most, beyond the model, in a process of their own."""
    device = torch.device(arguments.device)
    model, image, masks, noise = setting(arguments, 1, device)
    scored(model, image, masks, noise, arguments.vit_batch)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before: float = torch.cuda.memory_allocated()
    else:
        Path("/proc/self/clear_refs").write_text("5")  # the peak starts from what is resident now (man 5 proc)
        before = resident()
    scored(*setting(arguments, count, device), arguments.vit_batch)
    return (torch.cuda.max_memory_allocated() if device.type == "cuda" else resident()) - before


def resident() -> float:
    """Peak of the process's resident memory, bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024.0 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))


def by_masks(arguments: argparse.Namespace, device: torch.device) -> list[dict[str, float]]:
    print(f"ViT-CX with {arguments.vit}, {arguments.vit_size} px, batched by {arguments.vit_batch or 'default'}")
    print("  masks   made in, s   batched, s   mask by mask, s   times faster   peak memory, MB")
    features = torch.rand(384, 16, 16, device=device)  # as many channels and patches as ViT-S/14 at 224 px has
    rows = []
    for count in arguments.masks:
        given = setting(arguments, count, device)
        torch.testing.assert_close(scored(*given, arguments.vit_batch), scored(*given, 1), atol=1e-5, rtol=1e-4)
        calls: dict[str, Callable[[], object]] = {
            "masks": lambda count=count: vit_cx.feature_masks(features, (arguments.vit_size,) * 2, most=count),
            "batched": lambda given=given: scored(*given, arguments.vit_batch),
            "one by one": lambda given=given: scored(*given, 1),
        }
        times = race(calls, max(1, arguments.rounds // 3), device)
        with get_context("spawn").Pool(1) as pool:
            memory = pool.apply(peak, (arguments, count))
        row = {
            "masks": count,
            "masks_seconds": statistics.median(times["masks"]),
            "seconds": statistics.median(times["batched"]),
            "one_by_one_seconds": statistics.median(times["one by one"]),
            "times_faster": ratio(times, "one by one", "batched"),
            "peak_bytes": memory,
        }
        rows.append(row)
        seconds = f"{row['masks_seconds']:10.3f}   {row['seconds']:10.3f}   {row['one_by_one_seconds']:15.3f}"
        print(f"  {count:5d}   {seconds}   {row['times_faster']:12.2f}   {memory / 1e6:15.1f}")
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--cnn", default="resnet18")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--few", type=int, default=2, help="images for the methods that pass many times")
    parser.add_argument("--vit", default="vit_small_patch14_dinov2")
    parser.add_argument("--vit-size", type=int, default=224)
    parser.add_argument("--vit-batch", type=int, help="perturbed images at once; default: what suits the device")
    parser.add_argument("--masks", type=int, nargs="*", default=[8, 16, 32, 64, 128])
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    arguments = parser.parse_args()
    device = torch.device(arguments.device)
    torch.manual_seed(0)
    result = {"device": arguments.device, "threads": torch.get_num_threads(), "cams": cams(arguments, device)}
    result["vit_cx"] = by_masks(arguments, device)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
