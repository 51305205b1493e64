"""COCO 2017, photos with boxes and outlines of objects, and scenes like it."""

NAME = 'coco2017'
IMAGES = {'train': 118_287, 'validation': 5000}
# Images with an object or more, which detectors learn from and are scored on.
WITH_OBJECTS = {'train': 117_266, 'validation': 4952}
CLASSES = 80  # without the background
