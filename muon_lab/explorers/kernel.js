// An explorer whose picture is computed in Python: the scene arrives as a trait.

export default { render: explorer() };
