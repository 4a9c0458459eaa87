//! Answers for agents: the stores of stacks over the Model Context Protocol.
