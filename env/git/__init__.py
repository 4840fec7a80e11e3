"""What git has to do with an episode: the future made unreadable, the patch taken."""
