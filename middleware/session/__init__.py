"""What is known of one client's and one server's connection: bytes in, bytes and states out, no I/O.

batch          the parts of what a client sends
client         what a client sends, cut into batches that are routed as a whole
server         what a server answers, matched with what was asked of it
prepared       one prepared statement under many names
parameters     the settings a client asked for when it connected, put onto whichever server it is lent
login          who a client is (SCRAM, trust)
server_login   who we are, towards a server (SCRAM, md5, password, trust)
"""
