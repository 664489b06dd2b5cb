"""Small bugs planted into the code that ships, to see whether the tests see them."""
