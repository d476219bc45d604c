"""Families of sequences over a 20-letter alphabet, each letter drawn from its position's profile.

p(sequence | family) = product over positions of profile[family, position, letter]. Every third position
is conserved: there the profile prefers some letters, as at the active site of an enzyme, and tells the
families apart; the others are nearly background.

Source: Durbin et al. (1998), Biological sequence analysis, section 5.1 (ungapped score matrices).
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.distributions import constraints

from experiments.truth.law import Law

ALPHABET = "ACDEFGHIKLMNPQRSTVWY"  # the amino acids, by their one-letter codes
WEIGHTS = (0.5, 0.3, 0.2)
POSITIONS = 12
# Standard deviations of the logits. Conserved positions have 2.2 nats of entropy on average, variable ones
# 2.9, an even draw log 20 = 3.0: together they let Bayes' rule name 96 % of the families.
CONSERVED, VARIABLE = 1.5, 0.3
SEED = 20


class Profiles(Law):
    """Independent letters, each position with probabilities of its own in each family.

    Parameters
    ----------
    weights
        p(family), (families,).
    profiles
        (families, positions, letters), rows that sum to one.

    Raises
    ------
    ValueError
        If the shapes do not fit or the probabilities do not sum to one.
    """

    support = constraints.independent(constraints.nonnegative_integer, 1)

    def __init__(self, weights: Tensor, profiles: Tensor):
        sums = profiles.sum(-1)
        if profiles.ndim != 3 or len(profiles) != len(weights) or not torch.allclose(sums, sums.new_ones(())):
            raise ValueError(
                f"profiles: expected ({len(weights)}, positions, letters) that sum to 1 over letters, "
                f"got {tuple(profiles.shape)}"
            )
        self.profiles = (profiles / profiles.sum(-1, keepdim=True)).double()
        super().__init__(weights, profiles.shape[1], bounds=(0.0, profiles.shape[2] - 1.0))

    def log_prob_by_class(self, x: Tensor) -> Tensor:
        """Log p(sequence | family): letters (..., positions) -> (..., families)."""
        letters = self.profiles.shape[2]
        if not ((x >= 0) & (x < letters)).all():
            raise ValueError(f"x: expected letters 0 .. {letters - 1}, got {x.min()} .. {x.max()}")
        position = torch.arange(x.shape[-1])
        return self.profiles.log()[:, position, x.long()].sum(-1).movedim(0, -1)

    def sample_given(self, y: Tensor) -> Tensor:
        """Draw one sequence for every family: (rows,) -> (rows, positions), int64."""
        rows = self.profiles[y]
        return torch.multinomial(rows.flatten(0, 1), 1).reshape(rows.shape[:2])

    def entropies(self) -> Tensor:
        """Entropy of the sequences of every family, in nats: (families,)."""
        return -torch.special.xlogy(self.profiles, self.profiles).sum((1, 2))


def law() -> Profiles:
    """Return three families of sequences of twelve letters.

    Examples
    --------
    >>> x, y = law().sample_labelled(2, seed=0)
    >>> [len(word) for word in words(x)]
    [12, 12]
    """
    generator = torch.Generator().manual_seed(SEED)
    noise = torch.randn(len(WEIGHTS), POSITIONS, len(ALPHABET), generator=generator, dtype=torch.float64)
    conserved = torch.arange(POSITIONS) % 3 == 0
    logits = noise * torch.where(conserved, CONSERVED, VARIABLE)[:, None]
    return Profiles(torch.tensor(WEIGHTS, dtype=torch.float64), logits.softmax(-1))


def words(x: Tensor) -> list[str]:
    """Write sequences (rows, positions) in letters."""
    return ["".join(ALPHABET[letter] for letter in row) for row in x.long().tolist()]


def letters(words: list[str]) -> Tensor:
    """Read sequences of one length: (rows, positions), int64.

    Raises
    ------
    ValueError
        If the lengths differ or a letter is none of the 20.

    Examples
    --------
    >>> letters(["ACY"]).tolist()
    [[0, 1, 19]]
    """
    strange = sorted(set("".join(words)) - set(ALPHABET))
    if strange or len({len(word) for word in words}) != 1:
        raise ValueError(
            f"words: expected sequences of one length over {ALPHABET}, got lengths "
            f"{sorted({len(word) for word in words})} and the letters {strange} besides"
        )
    return torch.tensor([[ALPHABET.index(letter) for letter in word] for word in words])
