"""Mask R-CNN: finds objects in two steps, and the outline of each.

The variant is that of mlcommons/training, retired_benchmarks/maskrcnn: a
ResNet-50 with frozen batch norm, a feature pyramid, proposals, and heads for
boxes and masks. Corners of boxes are pixels: a width is x1 - x0 + 1.
"""
