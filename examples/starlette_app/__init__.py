"""A Starlette app on Hypercorn's Trio worker, recorded as a whole, and watched from a terminal."""
