"""One pass of training in the plain PyTorch loop, fastai, Hugging Face's Trainer or Lightning, each as its documentation shows it.

Run by `speed.py`, for the peers in an environment of their own without polytag: `python training_peers.py SIDE FILE.json`, where
the file holds {"paths", "targets", "size_px", "mean", "std"}. The same network (timm's ResNet-18, random weights), images, crops,
batch size 16 and SGD for all; precision, threads and loading are each library's defaults. Prints one JSON object.
"""

import json
import sys
import time

import timm
import torch
from PIL import Image
from torch.utils.data import DataLoader
from torchvision.transforms import v2

BATCH_SIZE = 16


class Images(torch.utils.data.Dataset):
    """(pixels, target) of an image: opened with Pillow, cropped at random, mirrored, normalised."""

    def __init__(self, job: dict, rows: range):
        self.paths, self.targets = [job["paths"][row] for row in rows], [job["targets"][row] for row in rows]
        steps = [v2.RandomResizedCrop(job["size_px"], scale=(0.4, 1)), v2.RandomHorizontalFlip()]
        steps += [v2.ToImage(), v2.ToDtype(torch.float32, scale=True), v2.Normalize(job["mean"], job["std"])]
        self.transform = v2.Compose(steps)

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, row: int):
        return self.transform(Image.open(self.paths[row]).convert("RGB")), torch.tensor(self.targets[row], dtype=torch.float32)


def plain(images: Images, num_classes: int) -> None:
    model = timm.create_model("resnet18", num_classes=num_classes).train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.001, momentum=0.9)
    criterion = torch.nn.BCEWithLogitsLoss()
    for pixels, targets in DataLoader(images, batch_size=BATCH_SIZE, shuffle=True):
        optimizer.zero_grad()
        loss = criterion(model(pixels), targets)
        loss.backward()
        optimizer.step()


def fastai(images: Images, num_classes: int) -> None:
    from functools import partial

    import fastai.callback.progress  # noqa: F401  gives Learner its no_bar
    from fastai.data.core import DataLoaders
    from fastai.learner import Learner
    from fastai.losses import BCEWithLogitsLossFlat

    model = timm.create_model("resnet18", num_classes=num_classes)
    loader = DataLoader(images, batch_size=BATCH_SIZE, shuffle=True)
    optimizer = partial(sgd_of_fastai, momentum=0.9)
    learner = Learner(DataLoaders(loader, []), model, loss_func=BCEWithLogitsLossFlat(), opt_func=optimizer, lr=0.001)
    with learner.no_bar(), learner.no_logging():
        learner.fit(1)


def sgd_of_fastai(parameters, lr: float, momentum: float):
    from fastai.optimizer import SGD

    return SGD(parameters, lr=lr, mom=momentum)


def transformers(images: Images, num_classes: int) -> None:
    import tempfile

    from transformers import Trainer, TrainingArguments

    class Wrapped(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.model = timm.create_model("resnet18", num_classes=num_classes)

        def forward(self, pixel_values, labels):
            logits = self.model(pixel_values)
            return {"loss": torch.nn.functional.binary_cross_entropy_with_logits(logits, labels), "logits": logits}

    def collate(rows):
        return {"pixel_values": torch.stack([row[0] for row in rows]), "labels": torch.stack([row[1] for row in rows])}

    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            output_dir=folder, num_train_epochs=1, per_device_train_batch_size=BATCH_SIZE, learning_rate=0.001, optim="sgd",
            save_strategy="no", report_to=[], disable_tqdm=True, logging_strategy="no", use_cpu=True,
        )  # fmt: skip
        Trainer(model=Wrapped(), args=arguments, train_dataset=images, data_collator=collate).train()


def lightning(images: Images, num_classes: int) -> None:
    import lightning

    class Module(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.model = timm.create_model("resnet18", num_classes=num_classes)

        def training_step(self, batch, batch_idx):
            return torch.nn.functional.binary_cross_entropy_with_logits(self.model(batch[0]), batch[1])

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=0.001, momentum=0.9)

    trainer = lightning.Trainer(
        max_epochs=1, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(Module(), DataLoader(images, batch_size=BATCH_SIZE, shuffle=True))


SIDES = {"plain": plain, "fastai": fastai, "transformers": transformers, "lightning": lightning}


def main() -> None:
    side, path = sys.argv[1:]
    with open(path) as file:
        job = json.load(file)
    torch.manual_seed(7)
    num_images, num_classes = len(job["paths"]), len(job["targets"][0])
    SIDES[side](Images(job, range(2 * BATCH_SIZE)), num_classes)  # warms up what is made once
    started = time.perf_counter()
    SIDES[side](Images(job, range(num_images)), num_classes)
    seconds = time.perf_counter() - started
    print(json.dumps({"images_per_second": num_images / seconds, "torch": torch.__version__, "threads": torch.get_num_threads()}))


if __name__ == "__main__":
    main()
