//! What is installed before ComfyUI starts: apt, pip, custom nodes, models.
