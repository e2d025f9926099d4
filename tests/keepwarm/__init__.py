"""What the scenario and server tests share: Keepwarm as a whole, a raw client, two kinds of backend."""
