"""README.md of an export: how programs without polytag call it."""

from polytag.models.exported import Exported
from polytag.text import counted, markdown


def readme(exported: Exported) -> str:
    """The text. Its Python and JavaScript run in the folder as they are."""
    size_px, checked = exported.preprocessing.image_size_px, exported.checked
    images = f"{counted(checked.images, 'images')} ({markdown(checked.of)})"
    return f"""# {counted(len(exported.label_set), "classes")} as ONNX

A multi-label classifier that polytag exported: checkpoint `{exported.id}`. The graphs hold resizing, normalisation, network,
calibration and thresholds. They were compared with the checkpoint on {images}:
no decision of {checked.decisions:,} changed, and logits differ by at most {checked.max_logit_difference:.1g}.

| file | input | outputs |
| --- | --- | --- |
| `image.onnx` | `image`: uint8 height x width x 3, upright RGB | `probability`, `logit` (float32), `present` (bool), 1 x classes |
| `pixels.onnx` | `pixels`: uint8 images x {size_px} x {size_px} x 3, resized as polytag does | the same, for each image |
| `export.json` | | classes in order, thresholds, preprocessing, SHA-256 of each graph, what was compared |
| `selftest/` | three images | the answers that every client must give, in `expected.json` |

Python, with `onnxruntime` and `pillow`:

```python
import json, sys
import numpy as np, onnxruntime
from PIL import Image, ImageOps

classes = json.load(open("export.json"))["classes"]
session = onnxruntime.InferenceSession("image.onnx")
image = np.asarray(ImageOps.exif_transpose(Image.open(sys.argv[1])).convert("RGB"))
probability, present = session.run(["probability", "present"], {{"image": image}})
print([(name, float(p)) for name, p, here in zip(classes, probability[0], present[0]) if here])
```

JavaScript, with `onnxruntime-node` and `sharp`:

```javascript
const ort = require("onnxruntime-node"), sharp = require("sharp"), fs = require("fs");
(async () => {{
  const {{ classes }} = JSON.parse(fs.readFileSync("export.json"));
  const upright = sharp(process.argv[2]).rotate().removeAlpha().toColourspace("srgb");
  const {{ data, info }} = await upright.raw().toBuffer({{ resolveWithObject: true }});
  const session = await ort.InferenceSession.create("image.onnx");
  const image = new ort.Tensor("uint8", data, [info.height, info.width, 3]);
  const {{ probability, present }} = await session.run({{ image }});
  console.log(classes.filter((_, c) => present.data[c]).map((name) => [name, probability.data[classes.indexOf(name)]]));
}})();
```

With polytag: `polytag predict THIS_FOLDER IMAGES...`, which needs no PyTorch.
"""
