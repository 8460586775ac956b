// What Piscina's threads are asked to do.
exports.noop = (value) => value;
