"""What a notebook or a script calls: `vistok.train`, `vistok.run`, `vistok.score` and the rest."""
