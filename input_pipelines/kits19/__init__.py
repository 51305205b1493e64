"""KiTS19, volumes of kidneys with tumours, and small ones of its schema."""

NAME = 'kits19'
CASES = 210  # that have labels
# Held out by the reference, mlcommons/training evaluation_cases.txt.
EVAL_CASES = (
  0, 3, 5, 6, 12, 24, 34, 41, 44, 49, 52, 56, 61, 65, 66, 70, 76, 78, 80, 84,
  86, 87, 92, 111, 112, 125, 128, 138, 157, 160, 161, 162, 169, 171, 176, 185,
  187, 189, 198, 203, 206, 207,
)  # fmt: skip
VOLUMES = {
  'train': CASES - len(EVAL_CASES),
  'validation': len(EVAL_CASES),
}
CLASSES = 3  # background, kidney, tumour
