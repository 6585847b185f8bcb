"""Recipe of `builtin:tiny-clip`, a CLIP model of 32 px trained from scratch on CIFAR-10.

`python -m train.tiny_clip` makes what is shipped in `curate/encoders/tiny_clip/`.
"""
