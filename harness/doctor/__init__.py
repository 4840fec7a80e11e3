"""The doctor: what works on this machine, and what to do about the rest.

containers.py  the engine, its base image, a container, the local sandbox
machine.py     versions, disks, the run's folder, memory, processors
model.py       GPU, vLLM, an endpoint, a tokenizer with its template
diagnosis.py   all of them, and which uses work; finding.py: what a check gives
"""
