"""The Wishart distribution, sampled without a false alarm."""

from __future__ import annotations

import pyro.distributions as dist
import torch
from torch import Tensor


class Wishart(dist.Wishart):
    """Wishart(df, scale) over (size, size) positive definite matrices.

    torch's own sampler warns "Singular sample detected" at every healthy draw, draws it again and
    again, and branches on values, since a check in it is inverted (torch 2.6 to 2.13). This one is
    Bartlett's decomposition as it stands: ``L A A' L'`` with ``A`` lower triangular, standard normals
    below the diagonal and on it the roots of chi-squares with df, df - 1, ... degrees of freedom.

    Source: Smith and Hocking (1972), "Algorithm AS 53: Wishart variate generator", Applied Statistics 21.

    Example:
        >>> import torch
        >>> with torch.random.fork_rng():
        ...     _ = torch.manual_seed(0)
        ...     Wishart(torch.tensor(5.0), torch.eye(2)).sample((4,)).shape
        torch.Size([4, 2, 2])
    """

    def rsample(self, sample_shape: torch.Size | tuple[int, ...] = ()) -> Tensor:
        """Draw (*sample_shape, *batch_shape, size, size), differentiable in the parameters."""
        shape = self._extended_shape(torch.Size(sample_shape))
        size = shape[-1]
        df = self.df[..., None] - torch.arange(size, dtype=self.df.dtype, device=self.df.device)
        chi2 = torch.distributions.Chi2(df.expand(shape[:-1])).rsample()
        lower = torch.randn(shape, dtype=self.df.dtype, device=self.df.device).tril(-1)
        root = self.scale_tril @ (lower + torch.diag_embed(chi2.sqrt()))
        return root @ root.mT
