from preprocessing.mscoco.command.command import main

main()
