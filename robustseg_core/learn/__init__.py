"""How a network is trained: recipe -> loader (augment, corrupt) -> task (losses) -> fit."""
