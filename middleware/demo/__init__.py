"""`pointsman demo`: a real cluster and the proxy in front of it, in one command.

stage     the sandbox and the proxy's settings for it
live      the endpoint, and what each node does, until Ctrl-C
tour      a scripted walk that ends by itself
load      a little traffic, so that there is something to see
"""
