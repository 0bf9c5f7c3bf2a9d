"""How a party reaches us. Each kind of leg is a Source and a Sink of the media plane."""
