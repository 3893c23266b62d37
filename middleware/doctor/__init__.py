"""Looking for what will go wrong, before it does: the settings beside what the nodes say of themselves.

    settings, auth_file ─┐
    nodes ──────ask──────┼→ Case ─checks→ Findings ─→ `pointsman doctor`
    this machine ────────┘

`ask` is the only module here that does I/O. A check is a function from a Case to its findings, in the module of its
subject; `checks` lists them. What makes a settings file unusable is middleware.config.contradictions' part.
"""
