"""SIP: our own stack, from bytes to calls. `docs/adr/0012-sip-stack.md` says why.

Values and tables first, each usable without the others' state and without I/O:

`grammar`, `uri`, `message`     text to and from typed values
`sdp`, `negotiation`            session descriptions, and what two of them agree on
`digest`, `guard`, `registrar`  who may ask, and where phones are
`transaction`, `dialog`         the state machines of RFC 3261

then what moves them:

`transport`, `endpoint`         sockets, and the transactions that run over them
`session`, `incoming`, `outgoing`  one leg of a call
`registration`                  our name at somebody else's registrar
`stack`                         all of it together: what the server uses
"""
