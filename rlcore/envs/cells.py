"""What there is to see in a cell of a grid: the codes that `render` of a world writes, `[H, W]` int32.

A world with cells has a function `render(state, params) -> [H, W]` beside it, which is pure and maps over states;
`training.pictures` makes images and GIFs of the codes.
"""

FLOOR, WALL, GOAL, AGENT, LAVA, MARK, EXIT = range(7)
COLOUR = 7  # and what follows: things of their own colour, counted from 0
