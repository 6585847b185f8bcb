"""Train a tiny open_clip model on CIFAR-10, to ask how well CLIP vectors find copies.

A ResNet of 16 channels and a text tower of two layers, on the training shards and their classes'
captions. The loss is CLIP's, but images of one class share their captions, so an image is compared
with one caption of each class. `--detector open_clip:local-dir --weights DIR` reads what it writes.

    python benchmarks/tiny_clip.py --data ../shared/data/cifar10/train --out tiny-clip
"""

import argparse
import json
import math
from pathlib import Path

import numpy as np
import open_clip
import safetensors.torch
import torch
from torch.nn import functional

from curate.discover import open_dataset
from curate.images import decode
from curate.samples import Member, image_member
from curate.shards import ShardReader

MODEL = {
    "embed_dim": 128,
    "vision_cfg": {"image_size": 32, "layers": [1, 1, 1, 1], "width": 16, "patch_size": None},
    "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 128, "heads": 2, "layers": 2},
}
TEMPLATES = ("a photo of a {}", "a blurry photo of a {}", "a small picture of one {}", "the {}")
BATCH = 250
RATE = 1e-3


def main() -> None:
    """Read, train, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--epochs", type=int, default=6)
    arguments = parser.parse_args()
    torch.manual_seed(0)
    images, labels = read(arguments.data)
    classes = sorted(set(labels))
    arguments.out.mkdir(parents=True)
    mean, std = open_clip.OPENAI_DATASET_MEAN, open_clip.OPENAI_DATASET_STD
    config = {"model_cfg": MODEL, "preprocess_cfg": {"mean": mean, "std": std, "size": [32, 32]}}
    (arguments.out / "open_clip_config.json").write_text(json.dumps(config))
    model = open_clip.CLIP(**MODEL)
    texts = open_clip.tokenize([t.format(name) for name in classes for t in TEMPLATES], 16)
    train(
        model, images, np.array([classes.index(label) for label in labels]), texts, arguments.epochs
    )
    path = arguments.out / "open_clip_model.safetensors"
    safetensors.torch.save_file({k: v.contiguous() for k, v in model.state_dict().items()}, path)


def read(folder: str) -> tuple[torch.Tensor, list[str]]:
    """(n, 3, 32, 32) uint8 and class names, in order."""
    dataset = open_dataset((folder,))
    images, labels = [], []
    for shard in dataset.shards:
        for sample in ShardReader(dataset, shard):
            member = image_member(sample)
            assert isinstance(member, Member)
            images.append(np.asarray(decode(member.data or b"")))
            labels.append(str(sample.label))
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2), labels


def train(
    model: open_clip.CLIP,
    images: torch.Tensor,
    labels: np.ndarray,
    texts: torch.Tensor,
    epochs: int,
) -> None:
    """Adam with a cosine schedule; shifts and mirroring are the only augmentation."""
    mean, std = (
        torch.tensor(v)[:, None, None]
        for v in (open_clip.OPENAI_DATASET_MEAN, open_clip.OPENAI_DATASET_STD)
    )
    rng = np.random.default_rng(0)
    optimiser = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=0.05)
    steps = epochs * len(images) // BATCH
    targets, step = torch.from_numpy(labels), 0
    for _ in range(epochs):
        for rows in rng.permutation(len(images)).reshape(-1, BATCH):
            for group in optimiser.param_groups:
                group["lr"] = RATE * (0.5 + 0.5 * math.cos(math.pi * step / steps))
            pictures = functional.pad(images[rows].float() / 255, (3, 3, 3, 3), "reflect")
            x, y = rng.integers(0, 7, 2)
            pictures = pictures[:, :, y : y + 32, x : x + 32]
            pictures = pictures.flip(3) if rng.integers(2) else pictures
            seen = model.encode_image((pictures - mean) / std, normalize=True)
            words = model.encode_text(texts, normalize=True).reshape(-1, len(TEMPLATES), 128)
            chosen = words[:, rng.integers(len(TEMPLATES))]
            logits = model.logit_scale.exp().clamp(max=100) * seen @ chosen.T
            loss = functional.cross_entropy(logits, targets[rows])
            loss.backward()
            optimiser.step()
            optimiser.zero_grad()
            step += 1
            if step % 50 == 0:
                right = (logits.argmax(1) == targets[rows]).float().mean()
                print(
                    f"step {step} of {steps}: loss {loss.item():.3f}, right {right:.2f}", flush=True
                )


if __name__ == "__main__":
    main()
