"""The other side of `serve.py`: LitServe with ONNX Runtime and an export's `pixels.onnx`, in an environment of its own.

    python benchmarks/serve_litserve.py EXPORT PORT WORKERS BATCH FAST_QUEUE

It needs litserve, onnxruntime, pillow and python-multipart, and no polytag. An image of a form is decoded and resized by Pillow,
scored by the same graph on one thread of each worker, and answered with labels and probabilities as JSON.
"""

import io
import json
import sys
from pathlib import Path

import litserve
import numpy as np
import onnxruntime
from PIL import Image


class Classifier(litserve.LitAPI):
    """One model in each worker."""

    def setup(self, device: str) -> None:
        facts = json.loads((Path(sys.argv[1]) / "export.json").read_text())
        self.classes, self.thresholds = facts["classes"], np.array(facts["thresholds"])
        self.size_px = facts["preprocessing"]["image_size_px"]
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        graph = str(Path(sys.argv[1]) / "pixels.onnx")
        self.session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])

    def decode_request(self, request):
        image = Image.open(io.BytesIO(request["file"].file.read())).convert("RGB")
        return np.asarray(image.resize((self.size_px, self.size_px), Image.Resampling.BICUBIC))

    def batch(self, inputs):
        return np.stack(inputs)

    def predict(self, pixels):
        pixels = pixels if pixels.ndim == 4 else pixels[None]
        probability_NC, present_NC = self.session.run(["probability", "present"], {"pixels": pixels})
        return list(zip(probability_NC.tolist(), present_NC.tolist(), strict=True))

    def unbatch(self, output):
        return output

    def encode_response(self, output):
        probability_C, present_C = output[0] if isinstance(output, list) else output
        order = np.argsort(np.negative(probability_C), kind="stable")
        return {
            "labels": [self.classes[column] for column in order if present_C[column]],
            "probabilities": {self.classes[column]: probability_C[column] for column in order},
        }


if __name__ == "__main__":
    _, _, port, workers, batch, fast_queue = sys.argv
    api = Classifier(max_batch_size=int(batch), batch_timeout=0.0)
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=int(workers), fast_queue=fast_queue == "1")
    server.run(host="127.0.0.1", port=int(port), generate_client_file=False, log_level="error")
