"""Problems to groups to rollouts."""
