"""How much a server carries. In: trials, asked one by one. Out: the highest rate that holds an SLO, models, plans."""
