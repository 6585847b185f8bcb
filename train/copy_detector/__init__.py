"""How the network of `builtin:copy` is made: sources, edits, loss, loop.

    python -m train.copy_detector --cifar10 cifar10/train --photos clothing-00000.tar --out net

No label takes part, and no picture of a benchmark's test set.
"""
