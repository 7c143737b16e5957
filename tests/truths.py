"The true laws of four worlds, and what a law may use."
TRUTH = {
    "spring": "2*r - 1.98",
    "r1": "m_i*m_j/(r + 0.01)",
    "r2": "m_i*m_j/(r + 0.01)^2",
    "charge": "-q_i*q_j/(r + 0.01)^2",
}
NAMES = ["r", "m_i", "m_j", "q_i", "q_j"]
