"""A profile of sequences: families of proteins, each with letter frequencies of its own at every position.

Story
    Sequences of one family have been aligned, so that position j means the same in all of them. To make a
    sequence, choose a family ``y``, then draw the letter at every position by itself from that family's
    frequencies there. Positions that matter allow few letters, others allow nearly all. This is the
    position-specific scoring matrix of bioinformatics, as a story: the score of a sequence is log p(x | y)
    against log p(x | background).

Joint
    p(weights) prod_c prod_j p(profile_cj) prod_i p(y_i | weights) prod_j p(x_ij | y_i, profile)

    - weights ~ Dirichlet(1, ..., 1)
    - profile[c, j] ~ Dirichlet(strength / letters, ..., strength / letters)
    - y_i ~ Categorical(weights)
    - x_ij ~ Categorical(profile[y_i, j])

Shapes
    weights (families,), profile (families, length, letters), y (n,) integers, x (n, length) integers:
    places in the alphabet (``encode`` reads strings).

Priors
    Uniform over family weights; ``strength`` imagined sequences with all letters equally frequent, at every
    position of every family ("pseudocounts"; 20 adds one for each amino acid).

Answers
    p(x | y): generate sequences of a family
    p(y | x): invert; letters may be missing, as at a gap
    p(x): weigh
    p(profile, weights | x, y): learn, exactly where every y is known
    not insertions and deletions: sequences come aligned, all of one length (a profile hidden Markov model
        would tell of those)

Source
    Durbin, Eddy, Krogh and Mitchison (1998), Biological Sequence Analysis, sections 5.1 and 11.5;
    Gribskov, McLachlan and Eisenberg (1987), Profile analysis, PNAS 84.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor
from torch.distributions import Distribution

ALPHABET = "ACDEFGHIKLMNPQRSTVWY"  # the 20 amino acids, one letter each (IUPAC-IUB 1968)


def sequence_profile(
    n: int, families: int = 2, length: int = 10, letters: int = 20, strength: float = 20.0
) -> Tensor:
    """Tell the story of ``n`` sequences; returns them, shape (n, length).

    Examples
    --------
    >>> import torch
    >>> with torch.random.fork_rng():
    ...     _ = torch.manual_seed(0)
    ...     sequence_profile(5, length=8).shape
    torch.Size([5, 8])
    """
    weights = pyro.sample("weights", dist.Dirichlet(torch.ones(families)))
    with pyro.plate("family", families, dim=-2), pyro.plate("position", length, dim=-1):
        profile = pyro.sample("profile", dist.Dirichlet(torch.full((letters,), strength / letters)))
    with pyro.plate("sequence", n, dim=-1):
        y = pyro.sample("y", dist.Categorical(weights))
        return pyro.sample("x", dist.Categorical(profile[y]).to_event(1))


def exact(
    data: Mapping[str, Tensor],
    n: int | None = None,
    families: int = 2,
    length: int = 10,
    letters: int = 20,
    strength: float = 20.0,
    *,
    given: Mapping[str, Tensor] | None = None,
) -> dict[str, Distribution]:
    """Return the posterior of the latent sites given sequences of known families, in closed form.

    Parameters
    ----------
    data
        ``x`` (n, length) and ``y`` (n,).
    n, families, length, letters, strength
        As the story was called.
    given
        Values of latent sites to condition on; the sites are independent a posteriori, so it only removes
        the sites it names.

    Returns
    -------
    dict
        ``weights`` (Dirichlet over families) and ``profile`` (Dirichlets over letters, batch shape
        (families, length)).
    """
    member = torch.nn.functional.one_hot(data["y"].long(), families).double()
    seen = torch.nn.functional.one_hot(data["x"].long(), letters).double()
    counts = torch.einsum("nf,nla->fla", member, seen)
    posterior: dict[str, Distribution] = {
        "weights": dist.Dirichlet(1.0 + member.sum(0)),
        "profile": dist.Dirichlet(strength / letters + counts),
    }
    return {name: q for name, q in posterior.items() if name not in (given or {})}


def encode(sequences: Sequence[str], alphabet: str = ALPHABET) -> Tensor:
    """Read aligned sequences: their letters' places in the alphabet, (n, length), int64.

    Raises
    ------
    ValueError
        If the sequences differ in length or hold a letter that is not in the alphabet.

    Examples
    --------
    >>> encode(["ACD", "YAC"])
    tensor([[ 0,  1,  2],
            [19,  0,  1]])
    """
    lengths = {len(s) for s in sequences}
    if len(lengths) != 1:
        raise ValueError(f"sequences: expected aligned ones, of one length, got lengths {sorted(lengths)}.")
    strange = sorted({letter for s in sequences for letter in s} - set(alphabet))
    if strange:
        raise ValueError(
            f"sequences: expected letters of {alphabet!r}, got {strange[0]!r}. Put any letter in place of a "
            f"gap and mask it (numpy.ma.masked_array): a masked letter is summed out."
        )
    return torch.tensor([[alphabet.index(letter) for letter in s] for s in sequences])


EXAMPLE = (
    (9, 3, 3, 5, 7.5),
    {
        "x": torch.tensor(
            [
                [2, 3, 4],
                [2, 3, 3],
                [2, 2, 4],
                [4, 2, 2],
                [4, 2, 3],
                [3, 2, 2],
                [3, 4, 4],
                [3, 4, 2],
                [2, 4, 4],
            ]
        ),
        "y": torch.tensor([2, 2, 2, 0, 0, 0, 1, 1, 1]),
    },
)
