"""The media plane: everything between a leg's packets and the socket to the app."""
