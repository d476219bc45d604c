"""The networks inside the deep stories, small and plain: what maps, not what is believed."""
