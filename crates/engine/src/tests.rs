//! Models of the engine's protocols, on the production code.
