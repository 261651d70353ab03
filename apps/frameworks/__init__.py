"""The endpoints mounted in each framework, its own way. In: a request, as the framework has it. Out: the answer."""
