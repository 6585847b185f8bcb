"""Losses of adversarial adaptation: tensors in, one number for each image out.

z_i is the feature of image i (a row, not normalised), t_k the unit feature of the text of class k,
s the logit scale exp(logit_scale), y_i the class of image i; cos(z, t) = z.t / |z|. Primed letters
belong to the attacked image, letters with a hat to the original, frozen model. Every loss is
computed in fp32 and returned as (n,) values, to be summed by an attack and averaged by an update.

| loss | source |
| --- | --- |
| `ce`, `adv`, `coadv`, `imgcoadv`, `tecoa` | Mao et al., ICLR 2023 (arXiv 2212.07016), eq. 2-8 |
| `tecoa_captions` | the same with captions, as AdvFLYP (CVPR 2026 Findings) trains on web pairs |
| `fare` | Schlarmann et al., ICML 2024 |
| `pmg_aft` | Wang et al., CVPR 2024 (arXiv 2401.04350) |
| `tga_zsr` | Yu et al., NeurIPS 2024 |
| `agft` | Cui et al., CVPR 2026 (arXiv 2603.29410) |
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from eval.models.classifier import cosine_logits

TGA_ADVERSARIAL, TGA_CLEAN = 0.08, 0.05
"""Weights of the two attention terms of TGA-ZSR."""

AGFT_SCALE, AGFT_RATIO = 180.0, 0.4
"""Logit scale of AGFT's training, and what the original model's is multiplied with."""

_SMALLEST = 1e-12


def ce(z: Tensor, texts: Tensor, scale: float, targets: Tensor) -> Tensor:
    """Cross-entropy of the zero-shot classifier on clean images.

    L_i = -log softmax_k(s cos(z_i, t_k))[y_i]

    Args:
        z: (n, d) features of clean images.
        texts: (C, d) unit rows.
        scale: s.
        targets: (n,) int64.
    """
    return _cross_entropy(cosine_logits(z, texts, scale), targets)


def tecoa(z: Tensor, texts: Tensor, scale: float, targets: Tensor) -> Tensor:
    """Text-guided contrastive adversarial loss: as `ce`, on attacked images.

    L_i = -log softmax_k(s cos(z'_i, t_k))[y_i]

    An image is contrasted with the texts of all classes (eq. 3-5), not with those of its batch, so
    this is the cross-entropy of a fixed linear readout made of texts (appendix A.5).

    Args:
        z: (n, d) features of attacked images.
        texts: (C, d) unit rows.
        scale: s.
        targets: (n,) int64; in the unlabelled form the original model's classes of clean images.
    """
    return ce(z, texts, scale, targets)


def adv(z: Tensor, weight: Tensor, bias: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy of a linear head on attacked images, which knows nothing of language.

    L_i = -log softmax_k(w_k.z'_i + b_k)[y_i]

    Args:
        z: (n, d) features of attacked images.
        weight: (C, d).
        bias: (C,).
        targets: (n,) int64.
    """
    return _cross_entropy(functional.linear(z.float(), weight.float(), bias.float()), targets)


def coadv(z: Tensor, codes: Tensor, scale: float, targets: Tensor) -> Tensor:
    """TeCoA with random codes instead of texts: the contrastive form without language.

    L_i = -log softmax_k(s cos(z'_i, e_k))[y_i]

    Eq. 6; its printed denominator names e_j where e_k must be meant.

    Args:
        z: (n, d) features of attacked images.
        codes: (C, d) unit rows, one random direction for each class.
        scale: s.
        targets: (n,) int64.
    """
    return tecoa(z, codes, scale, targets)


def imgcoadv(z: Tensor, z_view: Tensor, temperature: float) -> Tensor:
    """InfoNCE from attacked images to another view of the same batch, without labels or texts.

    L_i = -log softmax_j(cos(z'_i, v_j) / temperature)[i]

    Eq. 7-8, after Jiang et al. 2020. One of the two views is attacked.

    Args:
        z: (n, d) features of attacked images.
        z_view: (n, d) features v of the other, clean view.
        temperature: divisor of the cosines.
    """
    views = functional.normalize(z_view.float(), dim=1)
    own = torch.arange(len(z), device=z.device)
    return _cross_entropy(cosine_logits(z, views, 1 / temperature), own)


def tecoa_captions(z: Tensor, captions: Tensor, scale: float, positions: Tensor) -> Tensor:
    """TeCoA on image-text pairs without classes: the texts are those of the batch.

    L_i = -log softmax_j(s cos(z'_i, c_j))[p_i]

    Two samples with one caption count as each other's negatives, as in CLIP's own loss.

    Args:
        z: (n, d) features of attacked images.
        captions: (m, d) unit rows c of all captions of the batch, over all its parts.
        scale: s.
        positions: (n,) int64, the row p_i of an image's own caption.
    """
    return tecoa(z, captions, scale, positions)


def fare(z: Tensor, z_original: Tensor) -> Tensor:
    """Squared L2 distance to the original model's feature of the clean image.

    L_i = |z'_i - ^z_i|^2, of features that are not normalised.

    Where the two models are equal and the start is the image itself, the gradient is zero but for
    rounding: an attack on this loss needs a random start.

    Args:
        z: (n, d) features of attacked images.
        z_original: (n, d) features of the original model, on clean images.
    """
    return (z.float() - z_original.float()).square().sum(dim=1)


def pmg_aft(
    logits: Tensor, logits_clean: Tensor, logits_original: Tensor, targets: Tensor
) -> Tensor:
    """TeCoA, held to the original model and to the own clean prediction.

    L_i = -log p'_i[y_i] + KL(^p'_i || p'_i) + KL(p_i || p'_i), p = softmax of the logits

    Both weights are 1, and gradients pass through the clean branch. The terms are per image; a sum
    over the batch, as in the released code, would let their weight grow with its size.

    Args:
        logits: (n, C) of attacked images.
        logits_clean: (n, C) of clean images.
        logits_original: (n, C) of the original model on the attacked images.
        targets: (n,) int64.
    """
    return (
        _cross_entropy(logits, targets)
        + divergence(logits_original, logits)
        + divergence(logits_clean, logits)
    )


def tga_zsr(
    logits: Tensor,
    map_adversarial: Tensor,
    map_clean: Tensor,
    map_original: Tensor,
    targets: Tensor,
) -> Tensor:
    """TeCoA, and attention that stays where the original model had it.

    L_i = -log p'_i[y_i] + 0.08 D(A'_i, ^A_i) + 0.05 D(A_i, ^A_i)

    D is the L2 distance of two maps over the square root of their number of patches, so the weights
    mean the same for any grid. The maps are compared patch by patch, as `attention_map` gives them,
    without being enlarged to the image.

    Args:
        logits: (n, C) of attacked images.
        map_adversarial: (n, P) attention A' on attacked images.
        map_clean: (n, P) attention A on clean images.
        map_original: (n, P) attention of the original model on clean images.
        targets: (n,) int64.
    """
    return (
        _cross_entropy(logits, targets)
        + TGA_ADVERSARIAL * _distance(map_adversarial, map_original)
        + TGA_CLEAN * _distance(map_clean, map_original)
    )


def attention_map(patches: Tensor, texts: Tensor) -> Tensor:
    """Text-guided attention: where in an image the text of its class is seen.

    a_ij = cos(q_ij, t_i), then A_ij = (a_ij - min_j a_ij) / (max_j a_ij - min_j a_ij)

    A map without contrast is zero throughout.

    Args:
        patches: (n, P, d) patch tokens q, projected into the space of the texts.
        texts: (n, d) unit rows, the text of each image's true class.

    Returns:
        (n, P) fp32 in [0, 1].
    """
    cosines = torch.einsum("npd,nd->np", functional.normalize(patches.float(), dim=2), texts)
    lowest = cosines.amin(dim=1, keepdim=True)
    contrast = cosines.amax(dim=1, keepdim=True) - lowest
    return (cosines - lowest) / contrast.clamp(min=_SMALLEST)


def agft(z: Tensor, z_original: Tensor, texts: Tensor) -> Tensor:
    """Soft targets of the original model on clean images, softened, for attacked images.

    L_i = KL(softmax_k(0.4 * 180 cos(^z_i, t_k)) || softmax_k(180 cos(z'_i, t_k)))

    No labels are used. The model's own logit scale is replaced by 180 in training.

    Args:
        z: (n, d) features of attacked images.
        z_original: (n, d) features of the original model on clean images.
        texts: (C, d) unit rows.
    """
    soft = cosine_logits(z_original, texts, AGFT_RATIO * AGFT_SCALE)
    return divergence(soft, cosine_logits(z, texts, AGFT_SCALE))


def divergence(logits_p: Tensor, logits_q: Tensor) -> Tensor:
    """KL(p || q) of two softmaxes by row, (n, C) and (n, C) -> (n,); gradients reach both."""
    log_p = functional.log_softmax(logits_p.float(), dim=1)
    log_q = functional.log_softmax(logits_q.float(), dim=1)
    return (log_p.exp() * (log_p - log_q)).sum(dim=1)


def _cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    return functional.cross_entropy(logits.float(), targets, reduction="none")


def _distance(a: Tensor, b: Tensor) -> Tensor:
    # Equal maps are where training begins; this norm's gradient is zero there, not NaN.
    distance: Tensor = torch.linalg.vector_norm(a - b, dim=1) / math.sqrt(a.shape[1])
    return distance
