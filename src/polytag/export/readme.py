"""README.md of an export: how programs without polytag call it."""

from polytag.models.exported import IMAGE, PIXELS, PIXELS_OF, Checked, Exported
from polytag.text import counted, markdown


def readme(exported: Exported) -> str:
    """The text. Its Python and JavaScript run in the folder as they are."""
    by_onnx = _ONNX if IMAGE in exported.files else ""
    return f"""# {counted(len(exported.label_set), "classes")} as {" and ".join(_ENGINES[name] for name in _engines(exported))}

A multi-label classifier that polytag exported: checkpoint `{exported.id}`. The graphs hold normalisation, network, calibration and
thresholds, and `image.onnx` resizing, too. Each was compared with the checkpoint before this folder was written.

| file | input | outputs |
| --- | --- | --- |
{_files(exported)}| `export.json` | | classes in order, thresholds, preprocessing, SHA-256 of each graph, what was compared |
| `selftest/` | three images | the answers that every client must give, in `expected.json` |

| graph | precision | compared on | result |
| --- | --- | --- | --- |
{_compared(exported)}
{by_onnx}{_openvino(exported)}{_POLYTAG if set(_engines(exported)) - {"executorch"} else ""}"""


def checked_text(checked: Checked) -> str:
    """What the comparison found, in a sentence without its full stop."""
    if checked.mAP is None or checked.mAP_of_checkpoint is None:
        return f"no decision of {checked.decisions:,} changed, logits differ by at most {checked.max_logit_difference:.1g}"
    share = checked.decisions_changed / checked.decisions
    return (
        f"{checked.decisions_changed:,} of {checked.decisions:,} decisions changed ({share:.2%}), "
        f"mAP {checked.mAP:.4f} instead of {checked.mAP_of_checkpoint:.4f}"
    )


_ENGINES = {"onnx": "ONNX", "openvino": "OpenVINO", "executorch": "ExecuTorch"}


def _engines(exported: Exported) -> list[str]:
    return list(dict.fromkeys(file.engine for file in exported.files.values()))


def _files(exported: Exported) -> str:
    size_px = exported.preprocessing.image_size_px
    resized = f"uint8 images x {size_px} x {size_px} x 3, resized as polytag does"
    what = {
        IMAGE: "`image`: uint8 height x width x 3, upright RGB | `probability`, `logit` (float32), `present` (bool), 1 x classes",
        PIXELS: f"`pixels`: {resized} | the same, for each image",
    }
    for (engine, precision), (name, *_) in PIXELS_OF.items():
        known = "" if precision == "fp32" else f", computed in {precision}"
        known = ", up to 15 of one call" if engine == "executorch" else known
        what.setdefault(name, f"`pixels`: {resized} | `probability`, `logit`, `present`, for each image{known}; {_ENGINES[engine]}")
    return "".join(f"| `{name}` | {what.get(name, '| the numbers of the graph')} |\n" for name in exported.files)


def _compared(exported: Exported) -> str:
    return "".join(
        f"| `{name}` | {file.precision} | {counted(file.checked.images, 'images')}: {markdown(file.checked.of)} "
        f"| {checked_text(file.checked)} |\n"
        for name, file in exported.files.items()
        if not name.endswith(".bin")
    )


_POLYTAG = """With polytag: `polytag predict THIS_FOLDER IMAGES...`, which needs no PyTorch.
"""

_ONNX = """Python, with `onnxruntime` and `pillow`:

```python
import json, sys
import numpy as np, onnxruntime
from PIL import Image, ImageOps

classes = json.load(open("export.json"))["classes"]
session = onnxruntime.InferenceSession("image.onnx")
image = np.asarray(ImageOps.exif_transpose(Image.open(sys.argv[1])).convert("RGB"))
probability, present = session.run(["probability", "present"], {"image": image})
print([(name, float(p)) for name, p, here in zip(classes, probability[0], present[0]) if here])
```

JavaScript, with `onnxruntime-node` and `sharp`:

```javascript
const ort = require("onnxruntime-node"), sharp = require("sharp"), fs = require("fs");
(async () => {
  const { classes } = JSON.parse(fs.readFileSync("export.json"));
  const upright = sharp(process.argv[2]).rotate().removeAlpha().toColourspace("srgb");
  const { data, info } = await upright.raw().toBuffer({ resolveWithObject: true });
  const session = await ort.InferenceSession.create("image.onnx");
  const image = new ort.Tensor("uint8", data, [info.height, info.width, 3]);
  const { probability, present } = await session.run({ image });
  console.log(classes.filter((_, c) => present.data[c]).map((name) => [name, probability.data[classes.indexOf(name)]]));
})();
```

"""


def _openvino(exported: Exported) -> str:
    """For the usual preprocessing, which Pillow does in two calls; polytag or `image.onnx` do every other."""
    preprocessing, name = exported.preprocessing, PIXELS_OF["openvino", "fp32"][0]
    if not exported.has("openvino", "fp32") or (preprocessing.fit, preprocessing.crops) != ("squash", "center"):
        return ""
    size_px, filter = preprocessing.image_size_px, preprocessing.interpolation.upper()
    return f"""Python, with `openvino` and `pillow`; by itself OpenVINO computes in bfloat16 on some processors, hence the settings:

```python
import json, sys
import numpy as np, openvino
from PIL import Image, ImageOps

classes = json.load(open("export.json"))["classes"]
settings = {{"EXECUTION_MODE_HINT": "ACCURACY", "INFERENCE_PRECISION_HINT": "f32"}}
model = openvino.Core().compile_model("{name}", "CPU", settings)
image = ImageOps.exif_transpose(Image.open(sys.argv[1])).convert("RGB")
across = image.resize(({size_px}, image.height), Image.Resampling.{filter})
pixels = np.asarray(across.resize(({size_px}, {size_px}), Image.Resampling.{filter}))
found = model({{"pixels": pixels[None]}})
print([(name, float(p)) for name, p, here in zip(classes, found["probability"][0], found["present"][0]) if here])
```

"""
