"""Which XID errors of NVIDIA's driver end the use of a card, and which a person should know of.

Source: "XID Errors" of NVIDIA's GPU deployment documentation. All others (13, 31, 43, 45 and so on) are of the program
that used the card: its process ends, and the next one is none the worse.
"""

#: After these the card gives no results, or wrong ones, until it is reset or replaced.
FENCING = {
    48: "double-bit memory error",
    62: "its micro-controller halted",
    64: "a bad row of its memory could not be replaced",
    79: "it has fallen off the bus",
    95: "uncontained memory error",
    119: "its system processor does not answer",
    120: "its system processor failed",
    140: "unrecovered memory error",
}
#: After these it goes on, and should be reset or looked at when there is time.
DEGRADING = {
    63: "a bad row of its memory is replaced at the next reset",
    74: "NVLink error",
    92: "many single-bit memory errors",
    94: "contained memory error",
    154: "the driver asks for a reset",
}
