def linear(input, weight, bias=None):
    return input
