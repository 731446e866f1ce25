"""Heads that were tried beside polytag's own, each from its paper: what they read, and how one is trained.

Shapes: N images, P places of the maps, D channels of the maps (the last one and the expanded one), K principal axes of them, F
features of concat pooling, C classes, W width within a head. Every head begins with zero logits: it is added to others, or to the
log-odds of the classes.
"""

import math
from collections.abc import Callable, Iterator, Mapping

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from losses_tried import Tried
from polytag.training.losses import binary_cross_entropy

Inputs = Mapping[str, Tensor]
"""What heads read, all standardised: "maps" N x P x D in float16, "places" N x P x K, "features" N x F."""

WIDTH, HEADS, DROPOUT = 128, 4, 0.1
BATCH_SIZE, DECAY, AVERAGING = 32, 0.5, 0.95  # of images; of weights, not of biases and norms; a step's, of averaged weights


def _zero(layer: nn.Linear) -> nn.Linear:
    nn.init.zeros_(layer.weight)
    if layer.bias is not None:  # pyright: ignore[reportUnnecessaryComparison]  nn.Linear(bias=False) has none
        nn.init.zeros_(layer.bias)
    return layer


class Linear(nn.Module):
    """polytag's own head, trained: what of a difference comes from the training."""

    reads = ("features",)

    def __init__(self, inputs: Inputs, num_classes: int):
        super().__init__()
        self.classifier = _zero(nn.Linear(inputs["features"].shape[1], num_classes))

    def forward(self, feature_NF: Tensor) -> Tensor:
        return self.classifier(feature_NF)


class Perceptron(nn.Module):
    """An MLP: 512 hidden units, half of them dropped out."""

    reads = ("features",)

    def __init__(self, inputs: Inputs, num_classes: int):
        super().__init__()
        hidden = nn.Linear(inputs["features"].shape[1], 512)
        self.layers = nn.Sequential(hidden, nn.ReLU(), nn.Dropout(0.5), _zero(nn.Linear(512, num_classes)))

    def forward(self, feature_NF: Tensor) -> Tensor:
        return self.layers(feature_NF)


class ResidualAttention(nn.Module):
    """CSRA (Zhu and Wu, ICCV 2021, equation 5): a class's mean over the places, and lambda times that by its own attention.

    Lambda begins as `share` and is learned; with 0 it stays 0, which leaves the mean alone.
    """

    reads = ("maps",)

    def __init__(self, inputs: Inputs, num_classes: int, *, share: float = 0.2):
        super().__init__()
        self.classifier = _zero(nn.Linear(inputs["maps"].shape[2], num_classes))
        self.share = nn.Parameter(torch.tensor(share), requires_grad=share > 0)

    def forward(self, map_NPD: Tensor) -> Tensor:
        activation_NPC = self.classifier(map_NPD.float())
        return activation_NPC.mean(dim=1) + self.share * (torch.softmax(activation_NPC, dim=1) * activation_NPC).sum(dim=1)


class ResidualAttentionBesidePooling(nn.Module):
    """CSRA on the maps, and beside it a linear layer on what `concat-pool` reads, of which the maxima are new to it."""

    reads = ("maps", "features")

    def __init__(self, inputs: Inputs, num_classes: int):
        super().__init__()
        self.attention = ResidualAttention(inputs, num_classes)
        self.of_features = _zero(nn.Linear(inputs["features"].shape[1], num_classes, bias=False))

    def forward(self, map_NPD: Tensor, feature_NF: Tensor) -> Tensor:
        return self.attention(map_NPD) + self.of_features(feature_NF)


class AttentionPooling(nn.Module):
    """One learned query attends to the places; a linear layer reads its answer."""

    reads = ("places",)

    def __init__(self, inputs: Inputs, num_classes: int):
        super().__init__()
        self.project, self.query = nn.Linear(inputs["places"].shape[2], WIDTH), nn.Parameter(torch.randn(1, WIDTH))
        self.attend = nn.MultiheadAttention(WIDTH, HEADS, dropout=DROPOUT, batch_first=True)
        self.norm, self.classifier = nn.LayerNorm(WIDTH), _zero(nn.Linear(WIDTH, num_classes))

    def forward(self, place_NPK: Tensor) -> Tensor:
        memory_NPW = self.project(place_NPK)
        pooled = self.attend(self.query.expand(len(memory_NPW), -1, -1), memory_NPW, memory_NPW, need_weights=False)[0]
        return self.classifier(self.norm(pooled[:, 0]))


class Decoder(nn.Module):
    """One query a class attends to the places; a weight vector a class reads its answer.

    ML-Decoder (Ridnik and others, WACV 2023, section 3.2): fixed random queries, no self-attention. With as many queries as classes
    its group fully connected layer is such a vector. Query2Label (Liu and others, 2021): learned queries with self-attention; of
    its encoder layer and two decoder layers, one decoder layer is kept ("lite").
    """

    reads = ("places",)

    def __init__(self, inputs: Inputs, num_classes: int, *, is_query2label: bool):
        super().__init__()
        self.project = nn.Sequential(nn.Linear(inputs["places"].shape[2], WIDTH), nn.ReLU())
        self.query = nn.Parameter(torch.randn(num_classes, WIDTH), requires_grad=is_query2label)
        self.layer = _DecoderLayer(is_query2label)
        self.weight = nn.Parameter(torch.zeros(num_classes, WIDTH))
        self.bias = nn.Parameter(torch.zeros(num_classes))

    def forward(self, place_NPK: Tensor) -> Tensor:
        answer_NCW = self.layer(self.query.expand(len(place_NPK), -1, -1), self.project(place_NPK))
        return (answer_NCW * self.weight).sum(dim=2) + self.bias


class _DecoderLayer(nn.Module):
    """Of a transformer's decoder, normalised after each part, the self-attention being optional."""

    def __init__(self, attends_to_itself: bool):
        super().__init__()
        self.itself = nn.MultiheadAttention(WIDTH, HEADS, dropout=DROPOUT, batch_first=True) if attends_to_itself else None
        self.places = nn.MultiheadAttention(WIDTH, HEADS, dropout=DROPOUT, batch_first=True)
        self.feed = nn.Sequential(nn.Linear(WIDTH, 2 * WIDTH), nn.ReLU(), nn.Dropout(DROPOUT), nn.Linear(2 * WIDTH, WIDTH))
        self.norms = nn.ModuleList(nn.LayerNorm(WIDTH) for _ in range(3))

    def forward(self, query_NCW: Tensor, memory_NPW: Tensor) -> Tensor:
        if self.itself is not None:
            query_NCW = query_NCW + self.itself(query_NCW, query_NCW, query_NCW, need_weights=False)[0]
        query_NCW = self.norms[0](query_NCW)
        query_NCW = self.norms[1](query_NCW + self.places(query_NCW, memory_NPW, memory_NPW, need_weights=False)[0])
        return self.norms[2](query_NCW + self.feed(query_NCW))


class Boosted(nn.Module):
    """`concat-pool`'s linear head with BoostLU: `alpha` 1 is that head itself.

    Of the features the maxima are read; the means are those of the boosted class activation map.
    """

    reads = ("maps", "features")

    def __init__(self, inputs: Inputs, num_classes: int, *, alpha: float, top: slice):
        super().__init__()
        self.alpha, self.top = alpha, top
        self.at_place = _zero(nn.Linear(inputs["maps"].shape[2], num_classes, bias=False))
        self.of_top = _zero(nn.Linear(inputs["features"][:, top].shape[1], num_classes))

    def forward(self, map_NPD: Tensor, feature_NF: Tensor) -> Tensor:
        return boosted_mean(self.at_place(map_NPD.float()), alpha=self.alpha) + self.of_top(feature_NF[:, self.top])


def boosted_mean(activation_NPC: Tensor, *, alpha: float) -> Tensor:
    """BoostLU (Kim and others, CVPR 2023, equation 4): what speaks for a class counts `alpha` times, before the mean."""
    return torch.where(activation_NPC > 0, alpha * activation_NPC, activation_NPC).mean(dim=1)


Made = Callable[[Inputs, int], nn.Module]
HEADS_TRIED: dict[str, Made] = {
    "linear, trained": Linear,
    "linear on the means, trained": lambda inputs, num_classes: ResidualAttention(inputs, num_classes, share=0.0),
    "MLP": Perceptron,
    "CSRA": ResidualAttention,
    "CSRA beside concat-pool": ResidualAttentionBesidePooling,
}
ATTENTION: dict[str, Made] = {
    "attention pooling": AttentionPooling,
    "ML-Decoder": lambda inputs, num_classes: Decoder(inputs, num_classes, is_query2label=False),
    "Query2Label-lite": lambda inputs, num_classes: Decoder(inputs, num_classes, is_query2label=True),
}


def known_labels(logit_NC: Tensor, target_NC: Tensor, progress: float) -> Tensor:
    return binary_cross_entropy(logit_NC, target_NC)


def training(
    made: Made,
    inputs: Inputs,
    base_NC: Tensor,
    target_NC: Tensor,
    *,
    rate: float,
    seed: int,
    epochs: int,
    loss: Tried = known_labels,
) -> Iterator[nn.Module]:
    """After each epoch the head with its averaged weights, whose logits are added to `base_NC`.

    AdamW with an epoch of warm-up, then a constant rate, so that the training may end after any epoch.
    """
    torch.manual_seed(seed)
    head = made(inputs, target_NC.shape[1])
    averaged = AveragedModel(head, multi_avg_fn=get_ema_multi_avg_fn(AVERAGING))
    learned = [each for each in head.parameters() if each.requires_grad]
    groups = [
        {"params": [each for each in learned if each.ndim > 1], "weight_decay": DECAY},
        {"params": [each for each in learned if each.ndim <= 1], "weight_decay": 0.0},
    ]
    optimizer, num_steps = torch.optim.AdamW(groups, lr=rate), math.ceil(len(base_NC) / BATCH_SIZE)
    for epoch in range(epochs):
        head.train()
        for step, rows in enumerate(torch.randperm(len(base_NC)).split(BATCH_SIZE)):
            for group in optimizer.param_groups:
                group["lr"] = rate * min(1.0, epoch + (step + 1) / num_steps)
            optimizer.zero_grad()
            logit_NC = base_NC[rows] + _outputs(head, inputs, rows)
            loss(logit_NC, target_NC[rows], epoch / max(1, epochs - 1)).backward()
            optimizer.step()
            averaged.update_parameters(head)
        yield averaged.module.eval()


@torch.inference_mode()
def scores(head: nn.Module, inputs: Inputs, base_NC: Tensor) -> np.ndarray:
    """Logits N x C."""
    parts = torch.arange(len(base_NC)).split(64)
    return (base_NC + torch.cat([_outputs(head, inputs, rows) for rows in parts])).numpy()


def _outputs(head: nn.Module, inputs: Inputs, rows: Tensor) -> Tensor:
    return head(*(inputs[name][rows] for name in head.reads))  # pyright: ignore[reportGeneralTypeIssues]  each head's own names
