"""Training sets of a category: pictures drawn from words or taken from photographs, cut out, filtered, with features, in shards."""
