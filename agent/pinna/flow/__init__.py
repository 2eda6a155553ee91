"""How frames travel: callback -> ring -> thread -> bridge -> event loop -> fan-out."""
