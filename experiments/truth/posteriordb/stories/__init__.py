"""The stories, one per distinct likelihood and prior; ``STAN`` names the Stan programs that each tells."""
