"""From trained networks to the results table: embed, reduce, cluster, score."""
