"""What adversarial training buys and costs: one recipe trained plainly, with FGSM and with PGD, each then attacked.

    EDGEKIT_DATA=DIR python tools/bench_adversarial.py [--quick] [--model lenet5] [--epsilon 0.1] [--epochs 6]

The shipped recipe of the model, with another number of epochs and nothing else changed but `train.adversarial`. Of each
network: top-1 on all test pictures as they are, and on the first of them (mixed classes) under PGD with the gradient
(20 steps from a random start) and under the square attack, which sees answers only: a network that only hides its
gradient would stand the first and fall to the second. Accuracy under attack counts pictures that no attack was needed
for as wrong, with its 95 % interval (Wilson). One JSON document on standard output.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from benchmarking import Figure, arguments, machine_figures, note, print_document
from edgekit.core.errors import UsageError
from edgekit.core.measurement import wilson_interval
from edgekit.core.preprocessing import PreprocessSpec
from edgekit.core.recipe import Recipe
from edgekit.core.recipe_files import load_recipe, override_recipe
from edgekit.data.drawing import draw_order
from edgekit.data.opening import open_source
from edgekit.data.reading import iterate_batches
from edgekit.models.checkpoint import load_checkpoint
from edgekit.perturb.gradient import pgd
from edgekit.perturb.square import square_attack
from edgekit.perturb.torch_gradient import make_loss_gradient
from edgekit.runtime.preprocess import normalize
from edgekit.train.run import train
from edgekit.train.shipped import find_recipe

METHODS = ("plain", "fgsm", "pgd")
NUM_STEPS = 20
NUM_QUERIES = 300
BATCH_SIZE = 256


class Attacked(msgspec.Struct, frozen=True, kw_only=True):
    """Test pictures that are attacked.

    Args:
        pictures: uint8 [n, h, w, c], fitted to the networks' input.
        labels: int64 [n].
        num_square: The first so many are attacked by the square attack, too.
    """

    pictures: npt.NDArray[np.uint8]
    labels: npt.NDArray[np.int64]
    num_square: int


def draw_test(data: str, spec: PreprocessSpec, num: int, num_square: int) -> Attacked:
    """The first test pictures of a dataset, in an order that mixes the classes."""
    source = open_source(data, "test")
    batch = next(iterate_batches(source, spec, batch_size=num, indices=draw_order(len(source), seed=0)[:num]))
    if batch.labels is None:
        raise UsageError(f"{data} has no labelled test pictures")
    return Attacked(pictures=batch.pictures, labels=batch.labels, num_square=num_square)


def measure(module: nn.Module, spec: PreprocessSpec, attacked: Attacked, epsilon: float) -> dict[str, Figure]:
    """Accuracy of a network under both attacks, in percent."""
    rng = np.random.default_rng(0)

    @torch.inference_mode()
    def predict(pictures: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        return module(torch.from_numpy(normalize(pictures, spec))).numpy()

    def is_right(pictures: npt.NDArray[np.uint8], labels: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
        parts = [predict(pictures[start : start + BATCH_SIZE]) for start in range(0, len(pictures), BATCH_SIZE)]
        return np.concatenate(parts).argmax(axis=1) == labels

    pictures, labels = attacked.pictures, attacked.labels
    right = is_right(pictures, labels)
    gradient_of = make_loss_gradient(module, spec)
    stands_pgd = right & is_right(pgd(gradient_of, pictures, labels, epsilon, num_steps=NUM_STEPS, rng=rng), labels)
    pictures, labels = pictures[: attacked.num_square], labels[: attacked.num_square]
    changed = square_attack(predict, pictures, labels, epsilon, NUM_QUERIES, rng)
    stands_square = right[: attacked.num_square] & is_right(changed, labels)
    return {**_shares("pgd", stands_pgd), **_shares("square", stands_square)}


def _shares(attack: str, stands: npt.NDArray[np.bool_]) -> dict[str, Figure]:
    low, high = wilson_interval(int(stands.sum()), len(stands))
    shares = {"": float(stands.mean()), "_low": low, "_high": high}
    figures: dict[str, Figure] = {f"{attack}_top1{key}_percent": round(100 * value, 2) for key, value in shares.items()}
    return {**figures, f"{attack}_n": len(stands)}


def recipe_for(model: str, data: str, epochs: int) -> Recipe:
    """The shipped recipe of a model with another number of epochs. Raises `UsageError` when there is none."""
    path = find_recipe(model, data)
    if path is None:
        raise UsageError(f"no shipped recipe trains {model} on {data}")
    return load_recipe(path, [f"train.epochs={epochs}"])


def with_attack(recipe: Recipe, method: str, epsilon: float) -> Recipe:
    """The recipe with adversarial training; "plain" is without, and is attacked with the same epsilon."""
    recipe = override_recipe(recipe, [f"train.adversarial_epsilon={epsilon}"])
    if method == "plain":
        return recipe
    return override_recipe(recipe, [f"train.adversarial={method}"])


def train_and_attack(recipe: Recipe, run_dir: Path, num: int, num_square: int) -> dict[str, Figure]:
    """Train by a recipe, then attack what came out with the recipe's epsilon."""
    start = time.process_time()
    run = train(recipe, run_dir)
    seconds = time.process_time() - start
    module, card = load_checkpoint(run.checkpoint_path)
    attacked = draw_test(recipe.data.name, card.preprocess, num, num_square)
    return {
        "train_cpu_s": round(seconds, 1),
        "clean_top1_percent": round(100 * (card.test_top1 or 0), 2),
        "clean_n": card.num_test,
        **measure(module.eval(), card.preprocess, attacked, recipe.train.adversarial_epsilon),
    }


def main(given: Sequence[str] | None = None) -> int:
    """Train, attack and print."""
    parser = arguments(__doc__)
    parser.add_argument("--model", default="lenet5", help="a model with a shipped recipe; default: lenet5")
    parser.add_argument("--data", default="fashion_mnist", help="its dataset; default: fashion_mnist")
    parser.add_argument("--epsilon", type=float, default=0.1, help="of training and attacks; default: 0.1")
    parser.add_argument("--epochs", type=int, default=6, help="of each training; default: 6")
    parser.add_argument("--runs", type=Path, default=None, help="keep the run folders here; default: they are removed")
    options = parser.parse_args(given)
    epochs, num, num_square = (1, 200, 100) if options.quick else (options.epochs, 2000, 500)
    methods = METHODS[:2] if options.quick else METHODS
    figures: dict[str, Figure] = {
        "model": options.model,
        "dataset": options.data,
        "epsilon": options.epsilon,
        "epochs": epochs,
        "attack_pgd_steps": NUM_STEPS,
        "attack_square_queries": NUM_QUERIES,
        "train_threads": torch.get_num_threads(),
    }
    recipe = recipe_for(options.model, options.data, epochs)
    with tempfile.TemporaryDirectory(prefix="edgekit-") as temporary:
        for method in methods:
            run_dir = (options.runs or Path(temporary)) / method
            found = train_and_attack(with_attack(recipe, method, options.epsilon), run_dir, num, num_square)
            figures |= {f"{method}_{key}": value for key, value in found.items()}
            note(f"{method}: {found['clean_top1_percent']} %, PGD {found['pgd_top1_percent']} %")
    print_document({**figures, **machine_figures()})
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
