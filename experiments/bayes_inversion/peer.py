"""The peer of ``bayes_inversion``: multinomial logistic regression, p(y | x) and no more."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from experiments.truth.images.digits import LEVELS, Digits, Images


def discriminative_peer(train: Images, seed: int, pixels: Tensor | None = None) -> Any:
    """Fit multinomial logistic regression, its penalty tuned by 5-fold cross-validated log loss."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GridSearchCV, StratifiedKFold
    from threadpoolctl import threadpool_limits

    x = train.x if pixels is None else train.x[:, pixels]
    search = GridSearchCV(
        LogisticRegression(max_iter=5000),
        {"C": [0.3, 1.0, 3.0, 10.0, 30.0, 100.0]},
        scoring="neg_log_loss",
        cv=StratifiedKFold(5, shuffle=True, random_state=seed),
    )
    # The matrices are so small that a second BLAS thread makes this six times slower.
    with threadpool_limits(1):
        return search.fit((x / LEVELS).numpy(), train.y.numpy())


def peer_probabilities(peer: Any, x: Tensor) -> Tensor:
    """p(y | x) of the peer, (rows, 10)."""
    return torch.as_tensor(peer.predict_proba((x / LEVELS).numpy()))


def peer_half_seen(digits: Digits, peer: Any, hidden: Tensor, seed: int) -> dict[str, Tensor]:
    """Ask the peer about half-seen images, in the three ways there are."""
    x, mean = digits.test.x, digits.train.x.mean(0)
    retrained = discriminative_peer(digits.train, seed, pixels=~hidden)
    return {
        "peer, hidden pixels set to 0": peer_probabilities(peer, x * ~hidden),
        "peer, hidden pixels set to their training mean": peer_probabilities(
            peer, torch.where(hidden, mean, x)
        ),
        "peer, trained anew on upper halves only": peer_probabilities(retrained, x[:, ~hidden]),
    }
