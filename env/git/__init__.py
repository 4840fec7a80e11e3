"""Git in an episode: future commits are removed at the start, the patch is taken at the end."""
