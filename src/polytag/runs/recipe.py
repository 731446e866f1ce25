"""Recipes: every choice of a training run, with what each promises.

A recipe is a value. The command line replaces single fields of it (`dataclasses.replace`); nothing mutates it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from polytag.contracts import Preprocessing
from polytag.data.images.augment import augmentation
from polytag.errors import UsageError
from polytag.models.backbone_args import HEADS, check_backbone_args, check_backbone_name
from polytag.plain import WrongValue

AUTO = "auto"
"""The backbone of a recipe with a limit of minutes that leaves the choice to the plan."""
LOSSES = ("auto", "bce", "focal", "asl", "ll-r")
"""The names of the losses; `training.losses` holds them, and `training.label_policy` says what `auto` takes."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Every choice of a training run.

    backbone, backbone_args   a timm model and timm's own arguments for it; with `minutes` also "auto"
    weights                   "pretrained", "random", or a safetensors file
    image_size_px             side of the square input; None: 256, or the one size that a backbone such as ViT is built for
    fit, interpolation, crops, mean, std   see contracts.Preprocessing; mean and std None: what the weights were trained with
    head                      of models.heads: "linear", "concat-pool", "csra", or "auto": csra for the backbones it was measured on
    augment                   a preset of data.augment
    loss                      a name of training.losses, or "auto": "bce", or what training.label_policy finds for partial labels
    class_weights             "none", or "balanced": positives of a class count num_absent / num_present times, at most 20
    head_start                "probe": the head starts from (or, with 0 epochs, is) a logistic regression on frozen features
    micro_batch_size          images of a batch, or of a process's part, that go through the network at once; 0: all
    grad_checkpointing        whether activations are computed again in the backward pass instead of being held
    epochs                    of fine-tuning; 0 is the probe alone
    optimizer                 "adamw" or "sgd" (momentum 0.9)
    head_lr, backbone_lr      peak learning rates; None: what suits the weights (`peak_rates`)
    weight_decay              not applied to norms and biases
    schedule                  "cosine" to zero after `warmup_epochs` of linear warm-up, or "constant"
    batch_norm                "batch": batch normalisation uses and learns the statistics of each batch; "frozen": those of the
                              pretrained weights, as in scoring. Random weights have none, so there it is "batch"
    ema_decay                 of the averaged weights that are validated and saved; 0 turns the average off
    difficult                 VOC's difficult-only labels: "ignore" (unknown), "positive" or "negative"
    cache                   of decoded images: "auto", "none", "disk" (the image cache) or "gpu" (the memory of the device)
    save_every_minutes        state for a resume, besides that of every epoch
    minutes                   that the run may take, from the start of the command to its end; 0: as long as its epochs take
    ends                      pairs (at, end): from step `at` on, training ends at step `end` (training.pace)
    max_probe, max_val        training images for the probe, and validation images, at most, drawn with the seed; 0: all
    """

    name: str
    backbone: str = "resnet18"
    backbone_args: Mapping[str, object] = field(default_factory=dict)
    weights: str = "pretrained"
    image_size_px: int | None = None
    fit: str = "squash"
    interpolation: str = "bicubic"
    crops: str = "center"
    mean: tuple[float, float, float] | None = None
    std: tuple[float, float, float] | None = None
    head: str = "linear"
    augment: str = "standard"
    loss: str = "auto"
    class_weights: str = "none"
    head_start: str = "probe"
    epochs: int = 10
    batch_size: int = 32
    micro_batch_size: int = 0
    grad_checkpointing: bool = False
    optimizer: str = "adamw"
    head_lr: float | None = None
    backbone_lr: float | None = None
    weight_decay: float = 0.02
    schedule: str = "cosine"
    warmup_epochs: float = 1.0
    batch_norm: str = "frozen"
    ema_decay: float = 0.99
    difficult: str = "ignore"
    seed: int = 0
    device: str = "auto"
    precision: str = "auto"
    cache: str = "auto"
    save_every_minutes: float = 5.0
    minutes: float = 0.0
    ends: tuple[tuple[int, int], ...] = ()
    max_probe: int = 0
    max_val: int = 0

    def __post_init__(self):
        augmentation(self.augment)
        for name, value, allowed in (
            ("head", self.head, ("auto", *HEADS)),
            ("loss", self.loss, LOSSES),
            ("class weights", self.class_weights, ("none", "balanced")),
            ("head start", self.head_start, ("probe", "none")),
            ("optimizer", self.optimizer, ("adamw", "sgd")),
            ("schedule", self.schedule, ("cosine", "constant")),
            ("statistics of batch normalisation", self.batch_norm, ("batch", "frozen")),
            ("cache of images", self.cache, ("auto", "none", "disk", "gpu")),
            ("treatment of difficult labels", self.difficult, ("ignore", "positive", "negative")),
        ):
            if value not in allowed:
                raise UsageError(f"unknown {name}", got=repr(value), expected="one of " + ", ".join(allowed))
        for name, value, low, high in (
            ("epochs", self.epochs, 0, 100_000),
            ("batch size", self.batch_size, 2, 65_536),
            ("micro-batch size", self.micro_batch_size, 0, 65_536),
            ("ema decay", self.ema_decay, 0, 0.999999),
            ("head learning rate", 0 if self.head_lr is None else self.head_lr, 0, 1000),
            ("backbone learning rate", 0 if self.backbone_lr is None else self.backbone_lr, 0, 1000),
            ("weight decay", self.weight_decay, 0, 1000),
            ("warm-up epochs", self.warmup_epochs, 0, 100_000),
            ("minutes between two saves", self.save_every_minutes, 0, 1_000_000),
            ("seed", self.seed, 0, 2**32 - 1),
            ("minutes", self.minutes, 0, 1_000_000),
            ("most images for the probe", self.max_probe, 0, 2**40),
            ("most validation images", self.max_val, 0, 2**40),
        ):
            if not low <= value <= high:
                raise UsageError(f"{name} out of range", got=str(value), expected=f"{low} to {high}")
        own = Preprocessing()
        Preprocessing(
            image_size_px=own.image_size_px if self.image_size_px is None else self.image_size_px,
            fit=self.fit,
            interpolation=self.interpolation,
            crops=self.crops,
            mean=own.mean if self.mean is None else self.mean,
            std=own.std if self.std is None else self.std,
        )
        try:
            check_backbone_name(self.backbone)
            check_backbone_args(self.backbone_args)
        except WrongValue as error:
            raise UsageError("the recipe's backbone cannot be made", got=error.got, expected=error.expected) from error
        if not self.name.isprintable() or not 1 <= len(self.name) <= 100 or {"/", "\\"} & set(self.name):
            raise UsageError(
                "the recipe's name cannot be used",
                got=ascii(self.name[:100]),
                expected="1 to 100 printable characters without / and \\",
            )
        self._require_ends()
        if self.epochs == 0 and self.head_start == "none":
            raise UsageError("nothing to train", got="0 epochs and no probe", expected="epochs, or a probe as head start")

    def _require_ends(self) -> None:
        """Raises UsageError for ends that are no plans one after another, and for an end without a model."""
        at = 0
        for planned_at, end in self.ends:
            if not at <= planned_at <= end:
                raise UsageError(
                    "training cannot end so",
                    got=f"ends: {self.ends[:5]}",
                    expected="pairs (at, end) with 0 <= at <= end, each at from that of the last on",
                )
            at = planned_at
        if self.ends and self.ends[-1][1] == 0 and self.epochs and not self.has_head_start:
            raise UsageError("nothing to train", got="an end at step 0 and no probe", expected="a step, or a probe as head start")

    @property
    def has_head_start(self) -> bool:
        """Whether the head starts from a probe; features of random weights deserve one only where no epoch follows."""
        return self.head_start == "probe" and (self.weights != "random" or self.epochs == 0)

    @property
    def peak_rates(self) -> tuple[float, float]:
        """Peak learning rates of the head and of the backbone; random weights have one rate, the head's.

        Pretrained weights get gentle ones, which do not unlearn the probe that the head starts from (docs/experiments.md).
        """
        if self.weights == "random":
            rate = 2e-3 if self.head_lr is None else self.head_lr
            return rate, rate
        return 2e-4 if self.head_lr is None else self.head_lr, 1e-4 if self.backbone_lr is None else self.backbone_lr


# Docstrings of values: a recipe says what it promises, on what data and machine, in how long.

FINETUNE = Recipe(name="finetune", head="auto", epochs=6)
"""The default: the probe as head start, then a few gentle epochs of the whole network.

AdamW, warm-up and cosine, the statistics of batch normalisation as pretrained, no decay of norms and biases, averaged weights.
The figures that it reached, with machine and spread, are in benchmarks/results/voc_mini.json and docs/experiments.md.
"""

PROBE = Recipe(name="probe", head="auto", epochs=0)
"""The first answer: frozen features in one pass, then a regularised logistic regression per class.

The strength is chosen on held-out folds of the training images. The figures are beside those of `finetune`.
"""

BASELINE = Recipe(
    name="baseline",
    backbone="resnet18",
    weights="pretrained",
    image_size_px=224,
    fit="crop",
    interpolation="bilinear",
    mean=(0.4589, 0.4355, 0.4032),
    std=(0.2239, 0.2186, 0.2206),
    augment="standard",
    loss="bce",
    head_start="none",
    epochs=20,
    batch_size=16,
    optimizer="sgd",
    head_lr=0.001,
    backbone_lr=0.001,
    weight_decay=0.0,
    schedule="constant",
    batch_norm="batch",
    ema_decay=0.0,
    difficult="negative",
    seed=7,
)
"""The report that polytag began as: ResNet-18 from ImageNet, fine-tuned on Pascal VOC 2012 with one sigmoid per class.

BCE with logits, SGD at learning rate 0.001 with momentum 0.9, batches of 16 shuffled, 20 epochs, seed 7, the images' own mean and
standard deviation, difficult objects counted as negative; training and validation loss and mAP every epoch. The report leaves the
crop open: here it is the usual one, a random crop to 224 px in training, the shorter side at 256 px and the centre in validation.
"""

RECIPES = {recipe.name: recipe for recipe in (FINETUNE, PROBE, BASELINE)}


def recipe_named(name: str) -> Recipe:
    """The recipe of this name; raises UsageError with the known ones."""
    if name not in RECIPES:
        raise UsageError("unknown recipe", where="--recipe", got=repr(name), expected="one of " + ", ".join(RECIPES))
    return RECIPES[name]
