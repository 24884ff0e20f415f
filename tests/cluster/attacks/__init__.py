"""What somebody who may submit jobs tries, to get data of a class that stays home to a machine in the cloud."""
