"""`make load`: many connections. 2,000 clients who come and go, 10,000 idle ones, and those that connect for one query.

`client` is a client that costs little, `crowd` what the clients of a storm do, `storm`, `idle` and `serverless` are the
runs. `witness` counts at the nodes, `footprint` and `rest` look at Pointsman's workers from outside, `order` judges who
was served when. `result` shows and saves the outcome, `__main__` is the command line.
"""
