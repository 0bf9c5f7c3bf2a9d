"""The wire: bytes and JSON to and from typed values, and nothing else.

Everything Azure-shaped lives here, with its spelling and its variants; the rest of Offhook uses the glossary's words.
No I/O, no clock: what is a moment or is random is handed in.

`ids` and `auth`         who and what is named, and who may ask
`operations` and `rest`  requests and answers: routes and bodies
`events`                 what is sent to the app's endpoints
`streaming`              the audio WebSocket
"""
