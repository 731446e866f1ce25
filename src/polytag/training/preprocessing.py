"""Images as a recipe hands them to its backbone: what the recipe leaves open is what timm knows of the backbone."""

from polytag.contracts import Preprocessing
from polytag.models.backbone import fixed_input_size_px, pretrained_normalisation
from polytag.runs.recipe import Recipe

_IMAGE_SIZE_PX = 256


def preprocessing_of(recipe: Recipe) -> Preprocessing:
    """Size and normalisation are the recipe's, else those that the backbone is built for and was trained with."""
    mean, std = pretrained_normalisation(recipe.backbone)
    return Preprocessing(
        image_size_px=recipe.image_size_px or fixed_input_size_px(recipe.backbone) or _IMAGE_SIZE_PX,
        fit=recipe.fit,
        crops=recipe.crops,
        mean=recipe.mean or mean,
        std=recipe.std or std,
        interpolation=recipe.interpolation,
    )
